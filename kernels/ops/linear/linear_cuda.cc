#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/device/cuda/gemm.h"
#include "kernels/ops/cuda_linear_products.h"
#include "kernels/ops/linear/linear_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& bias,
                         const Tensor& residual, Tensor& y) {
  CudaGemm product = ForwardProduct(x, w, bias, y);
  product.beta = residual.present() ? 1.0F : 0.0F;
  product.c = residual.address();
  return Run(AsCudaStream(stream), product);
}

absl::Status BackwardInputCuda(Stream& stream, const Tensor& dy, const Tensor& w, Tensor& dx,
                               Accumulate accumulate) {
  CudaGemm product = InputGradientProduct(dy, w, dx);
  product.beta = accumulate == Accumulate::kYes ? 1.0F : 0.0F;
  return Run(AsCudaStream(stream), product);
}

absl::Status BackwardWeightCuda(Stream& stream, const Tensor& dy, const Tensor& x, Tensor& dw) {
  return Run(AsCudaStream(stream), {.m = dw.dim(0),
                                    .n = dw.dim(1),
                                    .k = RowsOf(x),
                                    .a = dy.address(),
                                    .a_stride = dw.dim(0),
                                    .a_transposed = true,
                                    .b = x.address(),
                                    .b_stride = dw.dim(1),
                                    .d = dw.address(),
                                    .d_stride = dw.dim(1),
                                    .d_type = dw.dtype(),
                                    .beta = 1.0F});
}

}  // namespace

void RegisterCudaLinear() {
  linear_forward.Set(DeviceKind::kCuda, ForwardCuda);
  linear_backward_input.Set(DeviceKind::kCuda, BackwardInputCuda);
  linear_backward_weight.Set(DeviceKind::kCuda, BackwardWeightCuda);
}

}  // namespace weft::kernels::internal
