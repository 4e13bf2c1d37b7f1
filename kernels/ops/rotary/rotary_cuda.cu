#include "kernels/device/cuda/vector.cuh"
#include "kernels/ops/rotary/rotary_cuda.h"

namespace weft::kernels::internal {
namespace {

constexpr int kThreads = 256;

// angles[T][D/2][2]: cosine and sine, computed in fp64 once for all sequences and heads.
__global__ void __launch_bounds__(kThreads) AnglesKernel(int64_t tokens, int64_t half, double base,
                                                         int64_t first_position, float2* angles) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= tokens * half) return;
  const double exponent = -static_cast<double>(index % half) / static_cast<double>(half);
  const double angle = static_cast<double>(first_position + index / half) * pow(base, exponent);
  double sine, cosine;
  sincos(angle, &sine, &cosine);
  angles[index] = make_float2(static_cast<float>(cosine), static_cast<float>(sine));
}

// A thread has V neighbouring pairs of one head of one token.
template <int V, typename T>
__global__ void __launch_bounds__(kThreads)
    TurnKernel(int64_t threads, int64_t tokens, int64_t heads, int64_t half, float sign, const T* x,
               const float2* angles, T* y) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= threads) return;
  const int64_t pieces = half / V;
  const int64_t row = index / pieces;  // of [B T H]
  const int64_t i = index % pieces * V;
  const float2* turn = angles + row / heads % tokens * half + i;
  const int64_t at = row * 2 * half + i;
  float low[V], high[V];
  Load<V>(x + at, low);
  Load<V>(x + at + half, high);
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const float cosine = turn[j].x;
    const float sine = sign * turn[j].y;
    const float turned = low[j] * cosine - high[j] * sine;
    high[j] = low[j] * sine + high[j] * cosine;
    low[j] = turned;
  }
  Store<V>(y + at, low);
  Store<V>(y + at + half, high);
}

}  // namespace

int64_t RotaryAngles(int64_t tokens, int64_t width) { return tokens * width; }

cudaError_t LaunchRotary(const CudaLaunch& on, int64_t batch, int64_t tokens, int64_t heads,
                         int64_t width, double base, int64_t first_position, float sign,
                         const void* x, float* angles, void* y) {
  const int64_t half = width / 2;
  if (batch * tokens * heads * half == 0) return cudaSuccess;
  auto* turns = reinterpret_cast<float2*>(angles);
  AnglesKernel<<<static_cast<unsigned>(CeilDiv(tokens * half, kThreads)), kThreads, 0, on.stream>>>(
      tokens, half, base, first_position, turns);
  return ForComputeType(on, [&]<typename T>() {
    const bool wide = IsAligned(x) && IsAligned(y) && half % kVector<T> == 0;
    const auto launch = [&]<int V>() {
      const int64_t threads = batch * tokens * heads * (half / V);
      TurnKernel<V><<<static_cast<unsigned>(CeilDiv(threads, kThreads)), kThreads, 0, on.stream>>>(
          threads, tokens, heads, half, sign, static_cast<const T*>(x), turns, static_cast<T*>(y));
      return cudaGetLastError();
    };
    return wide ? launch.template operator()<kVector<T>>() : launch.template operator()<1>();
  });
}

}  // namespace weft::kernels::internal
