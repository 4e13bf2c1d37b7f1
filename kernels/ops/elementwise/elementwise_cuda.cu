#include "kernels/device/cuda/map.cuh"
#include "kernels/ops/elementwise/elementwise_cuda.h"

namespace weft::kernels::internal {
namespace {

struct SumOf {
  __device__ void operator()(float a, float b, float, float& sum, float&) const { sum = a + b; }
};
struct Same {
  __device__ void operator()(float a, float, float, float& b, float&) const { b = a; }
};

constexpr int kThreads = 256;

// `words` words of 4 bytes; a last half word of 2 bytes when there is an odd number of those.
__global__ void FillKernel(int64_t words, bool half_left, uint32_t bits, uint32_t* x) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (int64_t i = first; i < words; i += stride) x[i] = bits;
  if (half_left && first == 0)
    *reinterpret_cast<uint16_t*>(x + words) = static_cast<uint16_t>(bits);
}
// The same from an address that is no multiple of 4.
__global__ void FillHalvesKernel(int64_t n, uint16_t bits, uint16_t* x) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < n) x[i] = bits;
}

}  // namespace

cudaError_t LaunchFill(const CudaLaunch& on, int64_t n, int bytes, uint32_t bits, void* x) {
  if (n == 0) return cudaSuccess;
  if (bits == 0) return cudaMemsetAsync(x, 0, static_cast<size_t>(n * bytes), on.stream);
  if (bytes == 2 && reinterpret_cast<uintptr_t>(x) % 4 != 0) {
    FillHalvesKernel<<<static_cast<unsigned>(CeilDiv(n, kThreads)), kThreads, 0, on.stream>>>(
        n, static_cast<uint16_t>(bits), static_cast<uint16_t*>(x));
    return cudaGetLastError();
  }
  const int64_t words = n * bytes / 4;
  const uint32_t word = bytes == 4 ? bits : bits << 16 | bits;
  const int64_t blocks = std::clamp<int64_t>(CeilDiv(words, 4 * kThreads), 1, 1 << 20);
  FillKernel<<<static_cast<unsigned>(blocks), kThreads, 0, on.stream>>>(
      words, n * bytes % 4 != 0, word, static_cast<uint32_t*>(x));
  return cudaGetLastError();
}

cudaError_t LaunchNarrow(const CudaLaunch& on, int64_t n, const float* from, void* to) {
  return Map1(on, n, Same(), from, static_cast<bf16*>(to));
}

cudaError_t LaunchWiden(const CudaLaunch& on, int64_t n, const void* from, float* to) {
  return Map1(on, n, Same(), static_cast<const bf16*>(from), to);
}

cudaError_t LaunchAdd(const CudaLaunch& on, bool is_bf16, int64_t n, const void* a, const void* b,
                      void* out) {
  const CudaLaunch typed = {on.stream, is_bf16, on.multiprocessors, on.ordinal};
  return ForComputeType(typed, [&]<typename T>() {
    return Map2(on, n, SumOf(), static_cast<const T*>(a), static_cast<const T*>(b),
                static_cast<T*>(out));
  });
}

}  // namespace weft::kernels::internal
