#include "kernels/device/cuda/vector.cuh"
#include "kernels/ops/sinusoids/sinusoids_cuda.h"

namespace weft::kernels::internal {
namespace {

constexpr int kThreads = 128;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    Kernel(SinusoidPlace place, int64_t rows, int64_t width, T* table) {
  const int64_t half = place.columns / 2;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= rows * half) return;
  const int64_t row = index / half;
  const int64_t i = index % half;
  const double exponent = -2 * static_cast<double>(i) / static_cast<double>(place.columns);
  const double angle = static_cast<double>(place.first_position + row) * pow(10000.0, exponent);
  double sine, cosine;
  sincos(angle, &sine, &cosine);
  T* out = table + row * width + place.first_column;
  out[place.interleaved ? 2 * i : i] = FromFloat<T>(static_cast<float>(sine));
  out[place.interleaved ? 2 * i + 1 : half + i] = FromFloat<T>(static_cast<float>(cosine));
}

}  // namespace

cudaError_t LaunchSinusoids(const CudaLaunch& on, const SinusoidPlace& place, int64_t rows,
                            int64_t width, void* table) {
  const int64_t threads = rows * (place.columns / 2);
  if (threads == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    Kernel<<<static_cast<unsigned>(CeilDiv(threads, kThreads)), kThreads, 0, on.stream>>>(
        place, rows, width, static_cast<T*>(table));
    return cudaGetLastError();
  });
}

}  // namespace weft::kernels::internal
