// The short convolution with its SiLU on CUDA, alone or with the L2 norm of heads behind it: what
// short_conv and conv_norm share. For op code only.
//
// A thread walks along the tokens of a piece, for V neighbouring channels, kGroup tokens at a time;
// the next groups are on their way meanwhile. With a norm, kHead threads side by side in a warp
// hold the channels of a head; without, kHead is 1. W: taps, at least.
#pragma once

#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/staged_rows.cuh"
#include "kernels/ops/cuda_activations.cuh"
#include "kernels/ops/cuda_column_sums.cuh"
#include "kernels/ops/cuda_conv_shape.h"

namespace weft::kernels {

namespace conv_internal {

constexpr int kThreads = 128;
constexpr int kGroup = 4;

// Groups of kTensors tensors. Four blocks of a multiprocessor have 128 KiB in shared memory or on
// their way there, of which memory's latency takes a third.
template <int kTensors, int V, typename T>
using Rows =
    std::conditional_t<(V > 1),
                       StagedRows<kTensors, V, kGroup, 16 / (kTensors * sizeof(T)), kThreads, T>,
                       HeldRows<kTensors, V, kGroup, T>>;

// As Store of vector.cuh, word by word: of four single elements the compiler would make two stores.
template <int V, typename T>
__device__ void StoreWords(T* at, const float (&values)[V]) {
  if constexpr (V == 4 && sizeof(T) == 2) {
    const __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(values[0], values[1]),
                                     __floats2bfloat162_rn(values[2], values[3])};
    uint2 words;
    memcpy(&words, pairs, sizeof(words));
    *reinterpret_cast<uint2*>(at) = words;
  } else {
    Store<V>(at, values);
  }
}

// The part of a call that a thread works on.
struct Place {
  int64_t b, c;     // sequence, first channel
  int first, last;  // tokens
  template <int V>
  static __device__ Place Of(const ConvShape& shape, bool long_pieces) {
    // Not an argument: the compiler shall know that a piece is whole groups.
    const int piece = long_pieces ? kLongConvPiece : kShortConvPiece;
    const int first = static_cast<int>(blockIdx.y) * piece;
    return {blockIdx.z, (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V, first,
            min(first + piece, static_cast<int>(shape.tokens))};
  }
};

// The input of token t, which may lie before the first token.
template <int V, typename T>
__device__ void ReadInput(const ConvShape& shape, const Place& at, int64_t t, const T* x,
                          const T* history, float (&out)[V]) {
  if (t >= 0) {
    Load<V>(x + (at.b * shape.tokens + t) * shape.channels + at.c, out);
  } else if (history != nullptr && t >= 1 - shape.taps) {
    Load<V>(history + (at.b * (shape.taps - 1) + shape.taps - 1 + t) * shape.channels + at.c, out);
  } else {
#pragma unroll
    for (int j = 0; j < V; ++j) out[j] = 0;
  }
}

// w[C, taps] of V channels; taps beyond the real ones are 0.
template <int V, int W, typename T>
__device__ void ReadTaps(const ConvShape& shape, int64_t c, const T* w, float (&out)[W][V]) {
#pragma unroll
  for (int j = 0; j < V; ++j) {
#pragma unroll
    for (int k = 0; k < W; ++k) {
      out[k][j] = k < shape.taps ? ToFloat(w[(c + j) * shape.taps + k]) : 0.0F;
    }
  }
}

// A group's rows behind the W - 1 rows before it: row i is token i - (W - 1) of the group.
template <int V, int W>
struct Window {
  static constexpr int kBefore = W - 1;
  float row[kBefore + kGroup][V];
  // Row of the token k before token g of the group.
  __device__ const float (&Back(int g, int k) const)[V] { return row[kBefore + g - k]; }
  __device__ void Shift() {
#pragma unroll
    for (int i = 0; i < kBefore; ++i) {
#pragma unroll
      for (int j = 0; j < V; ++j) row[i][j] = row[i + kGroup][j];
    }
  }
};

// Sums over the threads of a head, of one value for each token of the group: each lane gets the sum
// of token lane % 4. FromToken spreads what lanes make of them.
template <int kHead>
__device__ float SumOverHead(const float (&values)[kGroup]) {
  static_assert(kGroup == 4 && kHead >= 4);
  const bool odd = threadIdx.x % 2 != 0, upper = threadIdx.x / 2 % 2 != 0;
  float of_pair[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float even_token = values[2 * i], odd_token = values[2 * i + 1];
    of_pair[i] = (odd ? odd_token : even_token) +
                 __shfl_xor_sync(0xFFFFFFFF, odd ? even_token : odd_token, 1);
  }
  float sum = (upper ? of_pair[1] : of_pair[0]) +
              __shfl_xor_sync(0xFFFFFFFF, upper ? of_pair[0] : of_pair[1], 2);
#pragma unroll
  for (int distance = 4; distance < kHead; distance *= 2) {
    sum += __shfl_xor_sync(0xFFFFFFFF, sum, distance);
  }
  return sum;
}
__device__ inline float FromToken(float value, int g) {
  return __shfl_sync(0xFFFFFFFF, value, g, kGroup);
}

template <int V, int W, int kHead, typename T>
__global__ void __launch_bounds__(kThreads)
    Forward(ConvShape shape, bool long_pieces, ConvHeadNorm norm, const T* x, const T* w,
            const T* history, T* y) {
  const Place at = Place::Of<V>(shape, long_pieces);
  if (at.c >= shape.channels) return;
  const int64_t first = (at.b * shape.tokens + at.first) * shape.channels + at.c;
  Rows<1, V, T> rows({x + first}, shape.channels, at.last - at.first);
  float taps[W][V];
  Window<V, W> window;
  ReadTaps<V, W>(shape, at.c, w, taps);
#pragma unroll
  for (int k = 1; k < W; ++k) {
    ReadInput<V>(shape, at, at.first - k, x, history, window.row[W - 1 - k]);
  }
  T* out = y + first;
  // With a norm: of the token of this lane.
  const int64_t heads = shape.channels / (kHead * V);
  const int my_token = static_cast<int>(threadIdx.x) % kGroup;
  float* inverse = norm.inverse;
  if constexpr (kHead > 1) {
    inverse += (at.b * shape.tokens + at.first + my_token) * heads + at.c / (kHead * V);
  }
  for (int t = at.first; t < at.last; t += kGroup) {
    rows.Next();
    float a[kGroup][V];
    [[maybe_unused]] float squares[kGroup] = {};
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      rows.Unpack(0, g, window.row[W - 1 + g]);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        float z = 0;
#pragma unroll
        for (int k = 0; k < W; ++k) z += taps[k][j] * window.Back(g, k)[j];
        a[g][j] = SiluOf<T>(z);
        if constexpr (kHead > 1) squares[g] += a[g][j] * a[g][j];
      }
    }
    if constexpr (kHead > 1) {
      const float n = 1.0F / sqrtf(SumOverHead<kHead>(squares) + norm.eps);
      if (threadIdx.x % kHead < kGroup && t + my_token < at.last) *inverse = n;
      inverse += kGroup * heads;
#pragma unroll
      for (int g = 0; g < kGroup; ++g) {
        const float factor = FromToken(n * norm.scale, g);
#pragma unroll
        for (int j = 0; j < V; ++j) a[g][j] *= factor;
      }
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      if (t + g < at.last) StoreWords<V>(out, a[g]);
      out += shape.channels;
    }
    window.Shift();
  }
}

// The next group of x and, in `slopes`, of dy silu'(z). With a norm also a = silu(z) silu'(z) and,
// of this thread's channels, dot = sum(silu(z) dy).
template <int V, int W, bool kNorm, typename T>
__device__ void ReadSlopes(const Rows<2, V, T>& rows, const float (&taps)[W][V],
                           Window<V, W>& window, Window<V, W>& slopes,
                           [[maybe_unused]] float (&a)[kGroup][V],
                           [[maybe_unused]] float (&dot)[kGroup]) {
#pragma unroll
  for (int g = 0; g < kGroup; ++g) {
    rows.Unpack(0, g, window.row[W - 1 + g]);
    rows.Unpack(1, g, slopes.row[W - 1 + g]);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      float z = 0;
#pragma unroll
      for (int k = 0; k < W; ++k) z += taps[k][j] * window.Back(g, k)[j];
      const float s = SigmoidOf<T>(z);
      const float act = z * s;
      const float slope = s + (act - act * s);
      float& dz = slopes.row[W - 1 + g][j];
      if constexpr (kNorm) {
        dot[g] += act * dz;
        a[g][j] = act * slope;
      }
      dz *= slope;
    }
  }
}

// da_t = dy_t, or with a norm n (scale dy_t - scale n^2 a_t sum(a_t dy_t)); dz_t = da_t silu'(z_t);
// dx_t = sum_k w_k dz_{t+k}; dw_k = sum_t dz_t x_{t-k}. A piece works on W - 1 tokens of the next
// one too, for its last dx; piece 0 also makes d_history.
template <int V, int W, int kHead, typename T>
__global__ void __launch_bounds__(kThreads, 4)
    Backward(ConvShape shape, bool long_pieces, ConvHeadNorm norm, const T* x, const T* w,
             const T* history, const T* dy, T* dx, T* d_history, float* partial) {
  const Place at = Place::Of<V>(shape, long_pieces);
  if (at.c >= shape.channels) return;
  const int end = at.last + W - 1;
  const int limit = min(end, static_cast<int>(shape.tokens));
  const int64_t first = (at.b * shape.tokens + at.first) * shape.channels + at.c;
  Rows<2, V, T> rows({x + first, dy + first}, shape.channels, limit - at.first);
  float taps[W][V], dw[W][V] = {};
  Window<V, W> window, slopes = {};
  ReadTaps<V, W>(shape, at.c, w, taps);
#pragma unroll
  for (int k = 1; k < W; ++k) {
    ReadInput<V>(shape, at, at.first - k, x, history, window.row[W - 1 - k]);
  }
  // Of the token that is complete first.
  T* out = dx + (first - (W - 1) * shape.channels);
  // With a norm: n of the token of this lane, a group ahead.
  const int64_t heads = shape.channels / (kHead * V);
  int my_token = at.first + static_cast<int>(threadIdx.x) % kGroup;
  const float* inverse = norm.inverse;
  float ahead = 0;
  if constexpr (kHead > 1) {
    inverse += (at.b * shape.tokens + my_token) * heads + at.c / (kHead * V);
    if (my_token < limit) ahead = *inverse;
  }
  const auto step = [&]<bool kWhole>(int t) {
    float a[kGroup][V], dot[kGroup] = {};
    rows.Next();
    ReadSlopes<V, W, (kHead > 1), T>(rows, taps, window, slopes, a, dot);
    if constexpr (kHead > 1) {
      const float n = ahead;
      my_token += kGroup;
      inverse += kGroup * heads;
      if (my_token < limit) ahead = *inverse;
      const float factor = norm.scale * n;
      const float along = factor * n * n * SumOverHead<kHead>(dot);
#pragma unroll
      for (int g = 0; g < kGroup; ++g) {
        const float of_dy = FromToken(factor, g), of_a = FromToken(along, g);
#pragma unroll
        for (int j = 0; j < V; ++j) {
          float& dz = slopes.row[W - 1 + g][j];
          dz = of_dy * dz - of_a * a[g][j];
        }
      }
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      if (kWhole || t + g < at.last) {
#pragma unroll
        for (int k = 0; k < W; ++k) {
#pragma unroll
          for (int j = 0; j < V; ++j) dw[k][j] += slopes.Back(g, 0)[j] * window.Back(g, k)[j];
        }
      }
      float complete[V];
#pragma unroll
      for (int j = 0; j < V; ++j) {
        complete[j] = 0;
#pragma unroll
        for (int k = 0; k < W; ++k) complete[j] += taps[k][j] * slopes.Back(g, W - 1 - k)[j];
      }
      const int done = t + g - (W - 1);  // the token whose dx is complete now
      if (kWhole || (done >= at.first && done < at.last)) {
        StoreWords<V>(out, complete);
      } else if (at.first == 0 && done < 0 && d_history != nullptr && done >= 1 - shape.taps) {
        StoreWords<V>(
            d_history + (at.b * (shape.taps - 1) + shape.taps - 1 + done) * shape.channels + at.c,
            complete);
      }
      out += shape.channels;
    }
    window.Shift();
    slopes.Shift();
  };
  int t = at.first;
  for (; t < at.first + W - 1; t += kGroup) step.template operator()<false>(t);
#pragma unroll 2
  for (; t + kGroup <= at.last; t += kGroup) step.template operator()<true>(t);
  for (; t < end; t += kGroup) step.template operator()<false>(t);
  float* sums = partial + (at.b * gridDim.y + blockIdx.y) * shape.channels * shape.taps;
#pragma unroll
  for (int j = 0; j < V; ++j) {
#pragma unroll
    for (int k = 0; k < W; ++k) {
      if (k < shape.taps) sums[(at.c + j) * shape.taps + k] = dw[k][j];
    }
  }
}

inline dim3 Grid(const ConvShape& shape, int width) {
  return {static_cast<unsigned>(CeilDiv(shape.channels, int64_t{kThreads} * width)),
          static_cast<unsigned>(ConvPieces(shape)), static_cast<unsigned>(shape.batch)};
}

}  // namespace conv_internal

template <int V, int W, int kHead, typename T>
cudaError_t ConvForward(const CudaLaunch& on, const ConvShape& shape, const ConvHeadNorm& norm,
                        const T* x, const T* w, const T* history, T* y) {
  conv_internal::Forward<V, W, kHead>
      <<<conv_internal::Grid(shape, V), conv_internal::kThreads, 0, on.stream>>>(
          shape, HasLongPieces(shape), norm, x, w, history, y);
  return cudaGetLastError();
}

// dw is added to.
template <int V, int W, int kHead, typename T>
cudaError_t ConvBackward(const CudaLaunch& on, const ConvShape& shape, const ConvHeadNorm& norm,
                         const T* x, const T* w, const T* history, const T* dy, T* dx, T* d_history,
                         float* dw, float* partial) {
  const dim3 grid = conv_internal::Grid(shape, V);
  conv_internal::Backward<V, W, kHead><<<grid, conv_internal::kThreads, 0, on.stream>>>(
      shape, HasLongPieces(shape), norm, x, w, history, dy, dx, d_history, partial);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) return error;
  return AddParts(on, shape.batch * grid.y, shape.channels * shape.taps, partial, dw);
}

}  // namespace weft::kernels
