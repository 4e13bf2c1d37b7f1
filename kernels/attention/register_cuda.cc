#include "kernels/attention/delta/delta_kernels.h"
#include "kernels/attention/linear_attention/linear_attention_kernels.h"
#include "kernels/attention/register.h"

namespace weft::kernels {

void RegisterCudaAttention() {
  RegisterDelta(DeviceKind::kCuda, DeltaForwardCuda, DeltaBackwardCuda);
  SetDeltaCudaRecord(DeltaCudaRecordBytes);
  RegisterLinearAttention(DeviceKind::kCuda,
                          {LinearAttentionForwardCuda, LinearAttentionBackwardCuda,
                           LinearAttentionUndoCuda, LinearAttentionSegmentsCuda});
}

}  // namespace weft::kernels
