#include "kernels/ops/gelu/gelu_cuda.h"

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/gelu/gelu_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, GeluForm form, const Tensor& x, Tensor& y) {
  return CudaStatus(LaunchGeluForward(AsCudaStream(stream).launch(), form == GeluForm::kExact,
                                      x.count(), x.address(), y.address()),
                    "GeluForward");
}

absl::Status BackwardCuda(Stream& stream, GeluForm form, const Tensor& x, const Tensor& dy,
                          Tensor& dx) {
  return CudaStatus(LaunchGeluBackward(AsCudaStream(stream).launch(), form == GeluForm::kExact,
                                       x.count(), x.address(), dy.address(), dx.address()),
                    "GeluBackward");
}

}  // namespace

void RegisterCudaGelu() {
  gelu_forward.Set(DeviceKind::kCuda, ForwardCuda);
  gelu_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal
