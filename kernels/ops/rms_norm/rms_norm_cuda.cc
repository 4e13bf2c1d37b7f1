#include "kernels/ops/rms_norm/rms_norm_cuda.h"

#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/rms_norm/rms_norm_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCuda(Stream& stream, const Tensor& x, const Tensor& w, double eps, Tensor& y,
                         Tensor& rstd) {
  return CudaStatus(LaunchRmsNormForward(AsCudaStream(stream).launch(), RowsOf(x),
                                         static_cast<int>(w.count()), static_cast<float>(eps),
                                         x.address(), w.address(), y.address(), rstd.data<float>()),
                    "RmsNormForward");
}

absl::Status BackwardCuda(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& rstd,
                          const Tensor& dy, Tensor& dx, Accumulate accumulate, Tensor& dw,
                          Tensor& dx_sums) {
  CudaStream& cuda = AsCudaStream(stream);
  const int64_t rows = RowsOf(x);
  const auto channels = static_cast<int>(w.count());
  WEFT_ASSIGN_OR_RETURN(
      const CudaScratch partial,
      cuda.Scratch(RmsNormPartials(rows, channels, dx_sums.present()) * SizeOf(DType::kF32)));
  return CudaStatus(
      LaunchRmsNormBackward(
          cuda.launch(), rows, channels, accumulate == Accumulate::kYes, x.address(), w.address(),
          rstd.data<float>(), dy.address(), dx.address(), dw.data<float>(),
          dx_sums.present() ? dx_sums.data<float>() : nullptr, partial.data<float>()),
      "RmsNormBackward");
}

}  // namespace

void RegisterCudaRmsNorm() {
  rms_norm_forward.Set(DeviceKind::kCuda, ForwardCuda);
  rms_norm_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal
