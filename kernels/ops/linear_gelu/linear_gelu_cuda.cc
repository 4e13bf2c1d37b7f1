#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/device/cuda/gemm.h"
#include "kernels/ops/cuda_linear_products.h"
#include "kernels/ops/linear_gelu/linear_gelu_table.h"

namespace weft::kernels::internal {
namespace {

// Whether cuBLASLt can apply the GELU: it keeps or reads what lies before it in rows of a multiple
// of 8 on a 16-byte boundary, and does so for bf16.
bool IsFused(const Tensor& w, const Tensor& before) {
  return before.dtype() == DType::kBf16 && w.dim(0) % 8 == 0 && w.dim(1) % 8 == 0 &&
         reinterpret_cast<uintptr_t>(before.address()) % 16 == 0;
}

absl::Status ForwardCuda(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& bias,
                         Tensor& before, Tensor& y) {
  if (!IsFused(w, before)) return ComposedLinearGeluForward(stream, x, w, bias, before, y);
  CudaGemm product = ForwardProduct(x, w, bias, y);
  product.epilogue = CudaEpilogue::kKeepGelu;
  product.aux = before.address();
  return Run(AsCudaStream(stream), product);
}

absl::Status BackwardCuda(Stream& stream, const Tensor& dy, const Tensor& w, const Tensor& before,
                          Tensor& dx) {
  if (!IsFused(w, before)) return ComposedLinearBackwardGelu(stream, dy, w, before, dx);
  CudaGemm product = InputGradientProduct(dy, w, dx);
  product.epilogue = CudaEpilogue::kGeluSlope;
  product.aux = before.address();
  return Run(AsCudaStream(stream), product);
}

}  // namespace

void RegisterCudaLinearGelu() {
  linear_gelu_forward.Set(DeviceKind::kCuda, ForwardCuda);
  linear_backward_gelu.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal
