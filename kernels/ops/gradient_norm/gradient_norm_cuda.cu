#include "kernels/ops/cuda_double_sums.cuh"
#include "kernels/ops/gradient_norm/gradient_norm_cuda.h"

namespace weft::kernels::internal {
namespace {

static_assert(kDoubleSumBlock == 4096);  // kSumOfSquaresBlock

struct SquareOf {
  __device__ double operator()(double x) const { return x * x; }
};

__global__ void ClipKernel(const double* sum_of_squares, double max_norm, float* clip) {
  double factor = 1;
  if (max_norm > 0) {
    const double norm = sqrt(*sum_of_squares);
    factor = norm <= max_norm ? 1 : max_norm / norm;  // a NaN norm comes out
  }
  *clip = static_cast<float>(factor);
}

}  // namespace

int64_t SumOfSquaresPartials(int64_t n) { return DoubleSumPartials(n); }

cudaError_t LaunchSumOfSquares(const CudaLaunch& on, int64_t n, const float* x, double* partial,
                               double* out) {
  return SumInDouble(on, n, SquareOf(), x, partial, out);
}

cudaError_t LaunchClipFactor(const CudaLaunch& on, const double* sum_of_squares, double max_norm,
                             float* clip) {
  ClipKernel<<<1, 1, 0, on.stream>>>(sum_of_squares, max_norm, clip);
  return cudaGetLastError();
}

}  // namespace weft::kernels::internal
