#include "kernels/ops/gradient_norm/gradient_norm_cuda.h"

#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/gradient_norm/gradient_norm_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status SumOfSquaresCuda(Stream& stream, const Tensor& x, Tensor& out) {
  CudaStream& cuda = AsCudaStream(stream);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch partial,
                        cuda.Scratch(SumOfSquaresPartials(x.count()) * SizeOf(DType::kF64)));
  return CudaStatus(LaunchSumOfSquares(cuda.launch(), x.count(), x.data<float>(),
                                       partial.data<double>(), out.data<double>()),
                    "SumOfSquares");
}

absl::Status ClipFactorCuda(Stream& stream, const Tensor& sum_of_squares, double max_norm,
                            Tensor& clip) {
  return CudaStatus(LaunchClipFactor(AsCudaStream(stream).launch(), sum_of_squares.data<double>(),
                                     max_norm, clip.data<float>()),
                    "ClipFactor");
}

}  // namespace

void RegisterCudaGradientNorm() {
  sum_of_squares.Set(DeviceKind::kCuda, SumOfSquaresCuda);
  clip_factor.Set(DeviceKind::kCuda, ClipFactorCuda);
}

}  // namespace weft::kernels::internal
