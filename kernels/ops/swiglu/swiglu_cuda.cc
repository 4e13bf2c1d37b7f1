#include "kernels/ops/swiglu/swiglu_cuda.h"

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/swiglu/swiglu_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, const Tensor& gate, const Tensor& up, Tensor& y) {
  return CudaStatus(LaunchSwigluForward(AsCudaStream(stream).launch(), gate.count(), gate.address(),
                                        up.address(), y.address()),
                    "SwigluForward");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& gate, const Tensor& up, const Tensor& dy,
                          Tensor& dgate, Tensor& dup) {
  return CudaStatus(
      LaunchSwigluBackward(AsCudaStream(stream).launch(), gate.count(), gate.address(),
                           up.address(), dy.address(), dgate.address(), dup.address()),
      "SwigluBackward");
}

}  // namespace

void RegisterCudaSwiglu() {
  swiglu_forward.Set(DeviceKind::kCuda, ForwardCuda);
  swiglu_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal
