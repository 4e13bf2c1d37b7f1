#include "kernels/ops/sigmoid/sigmoid_cuda.h"

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/sigmoid/sigmoid_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, const Tensor& x, double scale, Tensor& y) {
  return CudaStatus(LaunchSigmoidForward(AsCudaStream(stream).launch(), x.count(),
                                         static_cast<float>(scale), x.address(), y.data<float>()),
                    "SigmoidForward");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& y, double scale, const Tensor& dy,
                          Tensor& dx) {
  return CudaStatus(
      LaunchSigmoidBackward(AsCudaStream(stream).launch(), y.count(), static_cast<float>(scale),
                            y.data<float>(), dy.data<float>(), dx.address()),
      "SigmoidBackward");
}

}  // namespace

void RegisterCudaSigmoid() {
  sigmoid_forward.Set(DeviceKind::kCuda, ForwardCuda);
  sigmoid_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal
