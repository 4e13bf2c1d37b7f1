#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/device/cuda/gemm.h"
#include "kernels/ops/linear/linear_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& bias,
                         const Tensor& residual, Tensor& y) {
  return Run(AsCudaStream(stream), {.m = RowsOf(x),
                                    .n = w.dim(0),
                                    .k = w.dim(1),
                                    .a = x.address(),
                                    .a_stride = w.dim(1),
                                    .b = w.address(),
                                    .b_stride = w.dim(1),
                                    .b_transposed = true,
                                    .d = y.address(),
                                    .d_stride = w.dim(0),
                                    .d_type = y.dtype(),
                                    .beta = residual.present() ? 1.0F : 0.0F,
                                    .c = residual.address(),
                                    .bias = bias.address()});
}

absl::Status BackwardInputCuda(Stream& stream, const Tensor& dy, const Tensor& w, Tensor& dx,
                               Accumulate accumulate) {
  return Run(AsCudaStream(stream), {.m = RowsOf(dy),
                                    .n = w.dim(1),
                                    .k = w.dim(0),
                                    .a = dy.address(),
                                    .a_stride = w.dim(0),
                                    .b = w.address(),
                                    .b_stride = w.dim(1),
                                    .d = dx.address(),
                                    .d_stride = w.dim(1),
                                    .d_type = dx.dtype(),
                                    .beta = accumulate == Accumulate::kYes ? 1.0F : 0.0F});
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
