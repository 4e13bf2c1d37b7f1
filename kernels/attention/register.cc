#include "kernels/attention/register.h"

#include "kernels/attention/delta/delta_kernels.h"
#include "kernels/attention/linear_attention/linear_attention_kernels.h"
#include "kernels/attention/polysketch/polysketch_kernels.h"
#include "kernels/attention/polysketch/sketch_kernels.h"
#include "kernels/attention/sbm/sbm_kernels.h"
#include "kernels/attention/scatterbrain/scatterbrain_kernels.h"
#include "kernels/attention/softmax/softmax_kernels.h"

namespace weft::kernels {

void RegisterReferenceAttention() {
  RegisterDelta(DeviceKind::kReference, DeltaForwardReference, DeltaBackwardReference);
  RegisterPolysketch(DeviceKind::kReference, PolysketchForwardReference,
                     PolysketchBackwardReference, PolysketchUndoReference);
  RegisterLinearAttention(DeviceKind::kReference,
                          {LinearAttentionForwardReference, LinearAttentionBackwardReference,
                           LinearAttentionUndoReference, LinearAttentionSegmentsHost});
  RegisterRandomSketch(DeviceKind::kReference, RandomSketchForwardReference,
                       RandomSketchBackwardReference);
  RegisterLearnedSketch(DeviceKind::kReference, LearnedSketchForwardReference,
                        LearnedSketchBackwardReference);
  RegisterSbm(DeviceKind::kReference,
              {nullptr, SbmSampleGraphReference, SbmForwardReference, SbmBackwardReference});
  RegisterSbmMemberships(DeviceKind::kReference,
                         {SbmMembershipForwardReference, SbmMembershipBackwardReference,
                          SbmAffinityForwardReference, SbmAffinityBackwardReference});
  RegisterSoftmax(DeviceKind::kReference, SoftmaxForwardReference, SoftmaxBackwardReference);
  RegisterScatterbrain(DeviceKind::kReference,
                       {nullptr, HashBucketsReference, ScatterbrainForwardReference,
                        ScatterbrainBackwardReference, ScatterbrainDecodeReference});
}

void RegisterCpuAttention() {
  RegisterDelta(DeviceKind::kCpu, DeltaForwardCpu, DeltaBackwardCpu);
  RegisterPolysketch(DeviceKind::kCpu, PolysketchForwardCpu, PolysketchBackwardCpu,
                     PolysketchUndoCpu);
  RegisterLinearAttention(DeviceKind::kCpu, {LinearAttentionForwardCpu, LinearAttentionBackwardCpu,
                                             LinearAttentionUndoCpu, LinearAttentionSegmentsHost});
  RegisterRandomSketch(DeviceKind::kCpu, RandomSketchForwardCpu, RandomSketchBackwardCpu);
  RegisterLearnedSketch(DeviceKind::kCpu, LearnedSketchForwardCpu, LearnedSketchBackwardCpu);
  RegisterSbm(DeviceKind::kCpu, {nullptr, SbmSampleGraphCpu, SbmForwardCpu, SbmBackwardCpu});
  RegisterSbmMemberships(DeviceKind::kCpu, {SbmMembershipForwardCpu, SbmMembershipBackwardCpu,
                                            SbmAffinityForwardCpu, SbmAffinityBackwardCpu});
  RegisterSoftmax(DeviceKind::kCpu, SoftmaxForwardCpu, SoftmaxBackwardCpu);
  RegisterScatterbrain(DeviceKind::kCpu, {nullptr, HashBucketsCpu, ScatterbrainForwardCpu,
                                          ScatterbrainBackwardCpu, ScatterbrainDecodeCpu});
}

}  // namespace weft::kernels
