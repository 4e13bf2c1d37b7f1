#include "kernels/ops/layer_norm/layer_norm_cuda.h"

#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/layer_norm/layer_norm_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& b,
                         double eps, Tensor& y, Tensor& mean, Tensor& rstd) {
  return CudaStatus(
      LaunchLayerNormForward(AsCudaStream(stream).launch(), RowsOf(x), static_cast<int>(w.count()),
                             static_cast<float>(eps), x.address(), w.address(), b.address(),
                             y.address(), mean.data<float>(), rstd.data<float>()),
      "LayerNormForward");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& mean,
                          const Tensor& rstd, const Tensor& dy, Tensor& dx, Accumulate accumulate,
                          Tensor& dw, Tensor& db, Tensor& dx_sums) {
  CudaStream& cuda = AsCudaStream(stream);
  const int64_t rows = RowsOf(x);
  const auto channels = static_cast<int>(w.count());
  WEFT_ASSIGN_OR_RETURN(
      const CudaScratch partial,
      cuda.Scratch(LayerNormPartials(rows, channels, dx_sums.present()) * SizeOf(DType::kF32)));
  return CudaStatus(LaunchLayerNormBackward(
                        cuda.launch(), rows, channels, accumulate == Accumulate::kYes, x.address(),
                        w.address(), mean.data<float>(), rstd.data<float>(), dy.address(),
                        dx.address(), dw.data<float>(), db.data<float>(),
                        dx_sums.present() ? dx_sums.data<float>() : nullptr, partial.data<float>()),
                    "LayerNormBackward");
}

}  // namespace

void RegisterCudaLayerNorm() {
  layer_norm_forward.Set(DeviceKind::kCuda, ForwardCuda);
  layer_norm_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal
