#include "kernels/ops/relu/relu_cuda.h"

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/relu/relu_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, const Tensor& x, Tensor& y) {
  return CudaStatus(
      LaunchReluForward(AsCudaStream(stream).launch(), x.count(), x.address(), y.address()),
      "ReluForward");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& y, const Tensor& dy, Tensor& dx) {
  return CudaStatus(LaunchReluBackward(AsCudaStream(stream).launch(), dy.count(), y.address(),
                                       dy.address(), dx.address()),
                    "ReluBackward");
}

}  // namespace

void RegisterCudaRelu() {
  relu_forward.Set(DeviceKind::kCuda, ForwardCuda);
  relu_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal
