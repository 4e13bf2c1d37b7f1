#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/device/cuda/gemm.h"
#include "kernels/ops/bias/bias.h"
#include "kernels/ops/cuda_linear_products.h"
#include "kernels/ops/linear_gelu/gelu_product_sm90.h"
#include "kernels/ops/linear_gelu/gelu_slope_sm90.h"
#include "kernels/ops/linear_gelu/linear_gelu_table.h"

namespace weft::kernels::internal {
namespace {

// Whether cuBLASLt can apply the GELU: it keeps or reads what lies before it in rows of a multiple
// of 8 on a 16-byte boundary, and does so for bf16.
bool IsFused(const Tensor& w, const Tensor& before) {
  return before.dtype() == DType::kBf16 && w.dim(0) % 8 == 0 && w.dim(1) % 8 == 0 &&
         reinterpret_cast<uintptr_t>(before.address()) % 16 == 0;
}

absl::Status ForwardOnHopper(const CudaLaunch& on, const Tensor& x, const Tensor& w,
                             const Tensor& bias, Tensor& before, Tensor& y) {
  return CudaStatus(LaunchGeluProduct(on, {.rows = RowsOf(x),
                                           .in = w.dim(1),
                                           .out = w.dim(0),
                                           .x = x.address(),
                                           .w = w.address(),
                                           .bias = bias.address(),
                                           .before = before.address(),
                                           .y = y.address()}),
                    "LinearGeluForward");
}

absl::Status ForwardCuda(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& bias,
                         Tensor& before, Tensor& y) {
  if (AreForHopper(stream.device(), {x, w, bias, before, y}) && GeluCovers(w.dim(1), w.dim(0))) {
    return ForwardOnHopper(AsCudaStream(stream).launch(), x, w, bias, before, y);
  }
  if (!IsFused(w, before)) return ComposedLinearGeluForward(stream, x, w, bias, before, y);
  CudaGemm product = ForwardProduct(x, w, bias, y);
  product.epilogue = CudaEpilogue::kKeepGelu;
  product.aux = before.address();
  return Run(AsCudaStream(stream), product);
}

absl::Status BackwardOnHopper(CudaStream& cuda, const Tensor& dy, const Tensor& w,
                              const Tensor& before, Tensor& dx, Tensor& dbias) {
  const int64_t rows = RowsOf(dy);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch partial,
                        cuda.Scratch(GeluSlopeParts(rows) * w.dim(1) * SizeOf(DType::kF32)));
  return CudaStatus(LaunchGeluSlopeProduct(
                        cuda.launch(), {.rows = rows,
                                        .in = w.dim(1),
                                        .out = w.dim(0),
                                        .dy = dy.address(),
                                        .w = w.address(),
                                        .before = before.address(),
                                        .dx = dx.address(),
                                        .dbias = dbias.present() ? dbias.data<float>() : nullptr,
                                        .partial = partial.data<float>()}),
                    "LinearBackwardGelu");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& dy, const Tensor& w, const Tensor& before,
                          Tensor& dx, Tensor& dbias) {
  CudaStream& cuda = AsCudaStream(stream);
  if (AreForHopper(stream.device(), {dy, w, before, dx}) && GeluSlopeCovers(w.dim(1), w.dim(0))) {
    return BackwardOnHopper(cuda, dy, w, before, dx, dbias);
  }
  if (!IsFused(w, before)) return ComposedLinearBackwardGelu(stream, dy, w, before, dx, dbias);
  CudaGemm product = InputGradientProduct(dy, w, dx);
  product.epilogue = CudaEpilogue::kGeluSlope;
  product.aux = before.address();
  WEFT_RETURN_IF_ERROR(Run(cuda, product));
  return dbias.present() ? BiasBackward(stream, dx, dbias) : absl::OkStatus();
}

}  // namespace

void RegisterCudaLinearGelu() {
  linear_gelu_forward.Set(DeviceKind::kCuda, ForwardCuda);
  linear_backward_gelu.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal
