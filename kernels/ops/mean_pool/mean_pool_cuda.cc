#include "kernels/ops/mean_pool/mean_pool_cuda.h"

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/mean_pool/mean_pool_table.h"

namespace weft::kernels::internal {
namespace {

const int32_t* ValidOrNull(const Tensor& valid) {
  return valid.present() ? valid.data<int32_t>() : nullptr;
}

absl::Status ForwardCuda(Stream& stream, const Tensor& x, const Tensor& valid, Tensor& y) {
  return CudaStatus(LaunchMeanPoolForward(AsCudaStream(stream).launch(), x.dim(0), x.dim(1),
                                          x.dim(2), x.address(), ValidOrNull(valid), y.address()),
                    "MeanPoolForward");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& dy, const Tensor& valid, Tensor& dx) {
  return CudaStatus(
      LaunchMeanPoolBackward(AsCudaStream(stream).launch(), dx.dim(0), dx.dim(1), dx.dim(2),
                             dy.address(), ValidOrNull(valid), dx.address()),
      "MeanPoolBackward");
}

}  // namespace

void RegisterCudaMeanPool() {
  mean_pool_forward.Set(DeviceKind::kCuda, ForwardCuda);
  mean_pool_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal
