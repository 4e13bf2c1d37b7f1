#include "common/base/status_macros.h"
#include "kernels/device/cpu/gemm_tiles.h"
#include "kernels/ops/bias/bias.h"
#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/linear/linear_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCpu(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& bias,
                        const Tensor& residual, Tensor& y) {
  const int64_t outputs = w.dim(0);
  const int64_t inputs = w.dim(1);
  ParallelGemm(AsCpuStream(stream), {Transpose::kNo, Transpose::kYes, RowsOf(x), outputs, inputs},
               x.data<float>(), w.data<float>(), 0, y.data<float>());
  if (bias.present()) WEFT_RETURN_IF_ERROR(BiasForward(stream, y, bias, y));
  return residual.present() ? Add(stream, residual, y, y) : absl::OkStatus();
}

absl::Status BackwardInputCpu(Stream& stream, const Tensor& dy, const Tensor& w, Tensor& dx,
                              Accumulate accumulate) {
  const int64_t outputs = w.dim(0);
  const int64_t inputs = w.dim(1);
  ParallelGemm(AsCpuStream(stream), {Transpose::kNo, Transpose::kNo, RowsOf(dy), inputs, outputs},
               dy.data<float>(), w.data<float>(), accumulate == Accumulate::kYes ? 1.0F : 0.0F,
               dx.data<float>());
  return absl::OkStatus();
}

absl::Status BackwardWeightCpu(Stream& stream, const Tensor& dy, const Tensor& x, Tensor& dw) {
  const int64_t outputs = dw.dim(0);
  const int64_t inputs = dw.dim(1);
  ParallelGemm(AsCpuStream(stream), {Transpose::kYes, Transpose::kNo, outputs, inputs, RowsOf(x)},
               dy.data<float>(), x.data<float>(), 1, dw.data<float>());
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuLinear() {
  linear_forward.Set(DeviceKind::kCpu, ForwardCpu);
  linear_backward_input.Set(DeviceKind::kCpu, BackwardInputCpu);
  linear_backward_weight.Set(DeviceKind::kCpu, BackwardWeightCpu);
}

}  // namespace weft::kernels::internal
