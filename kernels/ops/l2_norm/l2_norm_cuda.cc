#include "kernels/ops/l2_norm/l2_norm_cuda.h"

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/l2_norm/l2_norm_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, const Tensor& x, double eps, double scale, Tensor& y,
                         Tensor& inverse_norm) {
  return CudaStatus(
      LaunchL2NormForward(AsCudaStream(stream).launch(), RowsOf(x), static_cast<int>(x.dim(-1)),
                          static_cast<float>(eps), static_cast<float>(scale), x.address(),
                          y.address(), inverse_norm.data<float>()),
      "L2NormForward");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& y, const Tensor& inverse_norm, double scale,
                          const Tensor& dy, Tensor& dx) {
  return CudaStatus(
      LaunchL2NormBackward(AsCudaStream(stream).launch(), RowsOf(y), static_cast<int>(y.dim(-1)),
                           static_cast<float>(scale), y.address(), inverse_norm.data<float>(),
                           dy.address(), dx.address()),
      "L2NormBackward");
}

}  // namespace

void RegisterCudaL2Norm() {
  l2_norm_forward.Set(DeviceKind::kCuda, ForwardCuda);
  l2_norm_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal
