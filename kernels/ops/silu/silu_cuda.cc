#include "kernels/ops/silu/silu_cuda.h"

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/silu/silu_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, const Tensor& x, Tensor& y) {
  return CudaStatus(
      LaunchSiluForward(AsCudaStream(stream).launch(), x.count(), x.address(), y.address()),
      "SiluForward");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& x, const Tensor& dy, Tensor& dx) {
  return CudaStatus(LaunchSiluBackward(AsCudaStream(stream).launch(), dy.count(), x.address(),
                                       dy.address(), dx.address()),
                    "SiluBackward");
}

}  // namespace

void RegisterCudaSilu() {
  silu_forward.Set(DeviceKind::kCuda, ForwardCuda);
  silu_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal
