#include "kernels/attention/delta/delta_kernels.h"
#include "kernels/attention/linear_attention/linear_attention_kernels.h"
#include "kernels/attention/polysketch/polysketch_kernels.h"
#include "kernels/attention/polysketch/sketch_kernels.h"
#include "kernels/attention/register.h"
#include "kernels/attention/sbm/sbm_kernels.h"
#include "kernels/attention/scatterbrain/scatterbrain_kernels.h"
#include "kernels/attention/softmax/softmax_kernels.h"

namespace weft::kernels {

void RegisterCudaAttention() {
  RegisterDelta(DeviceKind::kCuda, DeltaForwardCuda, DeltaBackwardCuda);
  SetDeltaCudaRecord(DeltaCudaRecordBytes);
  RegisterLinearAttention(DeviceKind::kCuda,
                          {LinearAttentionForwardCuda, LinearAttentionBackwardCuda,
                           LinearAttentionUndoCuda, LinearAttentionSegmentsCuda});
  RegisterPolysketch(DeviceKind::kCuda, PolysketchForwardCuda, PolysketchBackwardCuda,
                     PolysketchUndoCuda);
  SetPolysketchCudaRecord(PolysketchCudaRecordBytes);
  RegisterRandomSketch(DeviceKind::kCuda, RandomSketchForwardCuda, RandomSketchBackwardCuda);
  RegisterLearnedSketch(DeviceKind::kCuda, LearnedSketchForwardCuda, LearnedSketchBackwardCuda);
  SetLearnedSketchCudaRecord(LearnedSketchCudaRecordBytes);
  RegisterSbm(DeviceKind::kCuda,
              {SbmSupportsCuda, SbmSampleGraphCuda, SbmForwardCuda, SbmBackwardCuda});
  RegisterSbmMemberships(DeviceKind::kCuda, {SbmMembershipForwardCuda, SbmMembershipBackwardCuda,
                                             SbmAffinityForwardCuda, SbmAffinityBackwardCuda});
  RegisterSoftmax(DeviceKind::kCuda, SoftmaxForwardCuda, SoftmaxBackwardCuda, SoftmaxLimitsCuda);
  RegisterScatterbrain(DeviceKind::kCuda,
                       {ScatterbrainSupportsCuda, HashBucketsCuda, ScatterbrainForwardCuda,
                        ScatterbrainBackwardCuda, nullptr});
}

}  // namespace weft::kernels
