#include "kernels/ops/cuda_activations.cuh"
#include "kernels/ops/cuda_column_sums.cuh"
#include "kernels/ops/short_conv/short_conv_cuda.h"

namespace weft::kernels::internal {
namespace {

// A thread walks along the tokens of a piece with a window of the last inputs in registers, for V
// neighbouring channels. The backward pass has more to remember and so fewer channels a thread.
constexpr int kThreads = 128;
constexpr int64_t kPiece = 32;      // tokens of a forward piece
constexpr int64_t kBackPiece = 64;  // tokens of a backward piece, whose dw is one partial sum
constexpr int kGroup = 4;           // tokens whose loads are under way at the same time

// Input of a sequence at token t, which may lie before the first token.
template <int V, typename T>
__device__ void Input(const ShortConvShape& shape, int64_t b, int64_t t, int64_t c, const T* x,
                      const T* history, float (&out)[V]) {
  if (t >= 0) {
    Load<V>(x + (b * shape.tokens + t) * shape.channels + c, out);
  } else if (history != nullptr && t >= 1 - shape.taps) {
    Load<V>(history + (b * (shape.taps - 1) + shape.taps - 1 + t) * shape.channels + c, out);
  } else {
#pragma unroll
    for (int j = 0; j < V; ++j) out[j] = 0;
  }
}

// w[C, taps] of V channels; taps beyond the real ones are 0.
template <int V, int W, typename T>
__device__ void Taps(const ShortConvShape& shape, int64_t c, const T* w, float (&out)[W][V]) {
#pragma unroll
  for (int j = 0; j < V; ++j) {
#pragma unroll
    for (int k = 0; k < W; ++k) {
      out[k][j] = k < shape.taps ? ToFloat(w[(c + j) * shape.taps + k]) : 0.0F;
    }
  }
}

// The newest value moves in front.
template <int V, int W>
__device__ void Push(float (&window)[W][V], const float (&value)[V]) {
#pragma unroll
  for (int k = W - 1; k > 0; --k) {
#pragma unroll
    for (int j = 0; j < V; ++j) window[k][j] = window[k - 1][j];
  }
#pragma unroll
  for (int j = 0; j < V; ++j) window[0][j] = value[j];
}

template <int V, int W>
__device__ void Dot(const float (&taps)[W][V], const float (&window)[W][V], float (&z)[V]) {
#pragma unroll
  for (int j = 0; j < V; ++j) {
    z[j] = 0;
#pragma unroll
    for (int k = 0; k < W; ++k) z[j] += taps[k][j] * window[k][j];
  }
}

template <int V, int W, typename T>
__global__ void __launch_bounds__(kThreads)
    ForwardKernel(ShortConvShape shape, const T* x, const T* w, const T* history, T* y) {
  const int64_t c = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  if (c >= shape.channels) return;
  const int64_t b = blockIdx.z;
  const int64_t first = int64_t{blockIdx.y} * kPiece;
  const int64_t last = min(first + kPiece, shape.tokens);
  float taps[W][V], window[W][V] = {};
  Taps<V, W>(shape, c, w, taps);
#pragma unroll
  for (int k = W - 1; k > 0; --k) {
    float value[V];
    Input<V>(shape, b, first - k, c, x, history, value);
    Push<V, W>(window, value);
  }
  for (int64_t t = first; t < last; t += kGroup) {
    float value[kGroup][V], z[V];
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      if (t + g < last) Load<V>(x + (b * shape.tokens + t + g) * shape.channels + c, value[g]);
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      if (t + g >= last) break;
      Push<V, W>(window, value[g]);
      Dot<V, W>(taps, window, z);
#pragma unroll
      for (int j = 0; j < V; ++j) z[j] = SiluOf<T>(z[j]);
      Store<V>(y + (b * shape.tokens + t + g) * shape.channels + c, z);
    }
  }
}

// dz_t = dy_t silu'(z_t); dx_t = sum_k w_k dz_{t+k}; dw_k = sum_t dz_t x_{t-k}. A piece works on
// W - 1 tokens of the next one too, for its last dx; piece 0 also makes d_history.
template <int V, int W, typename T>
__global__ void __launch_bounds__(kThreads)
    BackwardKernel(ShortConvShape shape, const T* x, const T* w, const T* history, const T* dy,
                   T* dx, T* d_history, float* partial) {
  const int64_t c = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  if (c >= shape.channels) return;
  const int64_t b = blockIdx.z;
  const int64_t first = int64_t{blockIdx.y} * kBackPiece;
  const int64_t last = min(first + kBackPiece, shape.tokens);
  float taps[W][V], window[W][V] = {}, slopes[W][V] = {}, dw[W][V] = {};
  Taps<V, W>(shape, c, w, taps);
#pragma unroll
  for (int k = W - 1; k > 0; --k) {
    float value[V];
    Input<V>(shape, b, first - k, c, x, history, value);
    Push<V, W>(window, value);
  }
  for (int64_t start = first; start < last + W - 1; start += kGroup) {
    float value[kGroup][V] = {}, slope[kGroup][V] = {};
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      const int64_t t = start + g;
      if (t >= last + W - 1 || t >= shape.tokens) continue;
      const int64_t at = (b * shape.tokens + t) * shape.channels + c;
      Load<V>(x + at, value[g]);
      Load<V>(dy + at, slope[g]);  // stays 0 behind the last token
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      const int64_t t = start + g;
      if (t >= last + W - 1) break;
      float z[V];
      Push<V, W>(window, value[g]);
      Dot<V, W>(taps, window, z);
#pragma unroll
      for (int j = 0; j < V; ++j) slope[g][j] *= SiluSlope<T>(z[j]);
      if (t < last) {
#pragma unroll
        for (int k = 0; k < W; ++k) {
#pragma unroll
          for (int j = 0; j < V; ++j) dw[k][j] += slope[g][j] * window[k][j];
        }
      }
      Push<V, W>(slopes, slope[g]);
      // slopes[k] is now dz of token t - k, so dx of token t - (W - 1) is complete.
      const int64_t done = t - (W - 1);
      if (done < first && (first > 0 || d_history == nullptr || done < 1 - shape.taps)) continue;
      float out[V];
#pragma unroll
      for (int j = 0; j < V; ++j) {
        out[j] = 0;
#pragma unroll
        for (int k = 0; k < W; ++k) out[j] += taps[k][j] * slopes[W - 1 - k][j];
      }
      if (done >= 0) {
        Store<V>(dx + (b * shape.tokens + done) * shape.channels + c, out);
      } else {
        Store<V>(d_history + (b * (shape.taps - 1) + shape.taps - 1 + done) * shape.channels + c,
                 out);
      }
    }
  }
  const int64_t part = int64_t{blockIdx.z} * gridDim.y + blockIdx.y;
  float* sums = partial + part * shape.channels * shape.taps;
#pragma unroll
  for (int j = 0; j < V; ++j) {
#pragma unroll
    for (int k = 0; k < W; ++k) {
      if (k < shape.taps) sums[(c + j) * shape.taps + k] = dw[k][j];
    }
  }
}

// Calls f.template operator()<V, W>(): V is kWide where that can be, W at least the taps.
template <int kWide, typename F>
cudaError_t ForTaps(const ShortConvShape& shape, bool aligned, const F& f) {
  const bool wide = aligned && shape.channels % 8 == 0;
  if (shape.taps <= 4) {
    return wide ? f.template operator()<kWide, 4>() : f.template operator()<1, 4>();
  }
  return f.template operator()<1, 16>();
}

}  // namespace

cudaError_t LaunchShortConvForward(const CudaLaunch& on, const ShortConvShape& shape, const void* x,
                                   const void* w, const void* history, void* y) {
  if (shape.batch * shape.tokens * shape.channels == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    const bool aligned = IsAligned(x) && IsAligned(history) && IsAligned(y);
    return ForTaps<kVector<T>>(shape, aligned, [&]<int V, int W>() {
      const dim3 grid(static_cast<unsigned>(CeilDiv(shape.channels, kThreads * V)),
                      static_cast<unsigned>(CeilDiv(shape.tokens, kPiece)),
                      static_cast<unsigned>(shape.batch));
      ForwardKernel<V, W><<<grid, kThreads, 0, on.stream>>>(
          shape, static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(history),
          static_cast<T*>(y));
      return cudaGetLastError();
    });
  });
}

int64_t ShortConvPartials(const ShortConvShape& shape) {
  return shape.batch * CeilDiv(shape.tokens, kBackPiece) * shape.channels * shape.taps;
}

cudaError_t LaunchShortConvBackward(const CudaLaunch& on, const ShortConvShape& shape,
                                    const void* x, const void* w, const void* history,
                                    const void* dy, void* dx, void* d_history, float* dw,
                                    float* partial) {
  if (shape.batch * shape.tokens * shape.channels == 0) return cudaSuccess;
  const int64_t pieces = CeilDiv(shape.tokens, kBackPiece);
  const cudaError_t error = ForComputeType(on, [&]<typename T>() {
    const bool aligned = IsAligned(x) && IsAligned(history) && IsAligned(dy) && IsAligned(dx) &&
                         IsAligned(d_history);
    return ForTaps<4>(shape, aligned, [&]<int V, int W>() {
      const dim3 grid(static_cast<unsigned>(CeilDiv(shape.channels, kThreads * V)),
                      static_cast<unsigned>(pieces), static_cast<unsigned>(shape.batch));
      BackwardKernel<V, W><<<grid, kThreads, 0, on.stream>>>(
          shape, static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(history),
          static_cast<const T*>(dy), static_cast<T*>(dx), static_cast<T*>(d_history), partial);
      return cudaGetLastError();
    });
  });
  if (error != cudaSuccess) return error;
  return AddParts(on, shape.batch * pieces, shape.channels * shape.taps, partial, dw);
}

}  // namespace weft::kernels::internal
