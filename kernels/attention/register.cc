#include "kernels/attention/register.h"

#include "kernels/attention/delta/delta_kernels.h"
#include "kernels/attention/polysketch/polysketch_kernels.h"
#include "kernels/attention/softmax/softmax_kernels.h"

namespace weft::kernels {

void RegisterReferenceAttention() {
  RegisterDelta(DeviceKind::kReference, DeltaForwardReference, DeltaBackwardReference);
  RegisterPolysketch(DeviceKind::kReference, PolysketchForwardReference,
                     PolysketchBackwardReference);
  RegisterSoftmax(DeviceKind::kReference, SoftmaxForwardReference, SoftmaxBackwardReference);
}

void RegisterCpuAttention() {
  RegisterDelta(DeviceKind::kCpu, DeltaForwardCpu, DeltaBackwardCpu);
  RegisterPolysketch(DeviceKind::kCpu, PolysketchForwardCpu, PolysketchBackwardCpu);
  RegisterSoftmax(DeviceKind::kCpu, SoftmaxForwardCpu, SoftmaxBackwardCpu);
}

}  // namespace weft::kernels
