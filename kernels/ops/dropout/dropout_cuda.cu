#include "kernels/device/cuda/vector.cuh"
#include "kernels/ops/dropout/dropout_cuda.h"
#include "kernels/random/philox.cuh"

namespace weft::kernels::internal {
namespace {

constexpr int kThreads = 256;

// A thread has the four channels of one draw.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    Kernel(DropoutPlace place, int64_t rows, int64_t tokens, int64_t channels, const T* x, T* y) {
  const int64_t blocks = (channels + 3) / 4;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= rows * blocks) return;
  const int64_t row = i / blocks;  // of [B T, C]
  const int64_t block = i % blocks;
  const auto sequence = static_cast<uint32_t>(row / tokens);
  const auto position = static_cast<uint32_t>(row % tokens);
  const uint4 words = Philox4x32(make_uint4(place.first_position + position,
                                            place.first_ordinal | static_cast<uint32_t>(block),
                                            place.counter2 + sequence, place.counter3),
                                 place.seed);
  const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int64_t channel = block * 4 + j;
    if (channel >= channels) return;
    const int64_t at = row * channels + channel;
    y[at] = FromFloat<T>(word[j] >= place.least_kept ? ToFloat(x[at]) * place.scale : 0.0F);
  }
}

}  // namespace

cudaError_t LaunchDropout(const CudaLaunch& on, const DropoutPlace& place, int64_t batch,
                          int64_t tokens, int64_t channels, const void* x, void* y) {
  const int64_t threads = batch * tokens * ((channels + 3) / 4);
  if (threads == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    Kernel<<<static_cast<unsigned>(CeilDiv(threads, kThreads)), kThreads, 0, on.stream>>>(
        place, batch * tokens, tokens, channels, static_cast<const T*>(x), static_cast<T*>(y));
    return cudaGetLastError();
  });
}

}  // namespace weft::kernels::internal
