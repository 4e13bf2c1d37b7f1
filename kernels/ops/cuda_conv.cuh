// The short convolution with its SiLU on CUDA, alone or with the L2 norm of heads behind it: what
// short_conv and conv_norm share. For op code only.
//
// A thread walks along the tokens of a piece, for V neighbouring channels, kGroup tokens at a time:
// the loads of the next group are under way while this one is computed. With a norm, kHead threads
// side by side in a warp hold the channels of a head; without, kHead is 1. W: taps, at least.
#pragma once

#include "kernels/device/cuda/packed.cuh"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/ops/cuda_activations.cuh"
#include "kernels/ops/cuda_column_sums.cuh"
#include "kernels/ops/cuda_conv_shape.h"

namespace weft::kernels {

namespace conv_internal {

constexpr int kThreads = 128;
constexpr int kPiece = 32;  // tokens of a piece of the forward pass

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
  static __device__ Place Of(const ConvShape& shape, int piece) {
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

// kGroup tokens of one tensor, loaded ahead: `count` of them, then zeros.
template <int V, int kGroup, typename T>
struct Ahead {
  Packed<V, T> token[kGroup];
  __device__ void Read(const T* at, int64_t stride, int count) {
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      if (g < count) {
        token[g].Read(at + g * stride);
      } else {
        token[g].Clear();
      }
    }
  }
};

__device__ inline void PrefetchLine(const void* at) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(at)));
}

// Of the cache lines that a warp reads for a group of tokens, this lane's: brought from memory to
// the L2 cache a group before it is loaded. Loads of one group alone are too few bytes on their
// way, and loads of more groups would take more registers.
template <int V, int kGroup, typename T>
struct LineAhead {
  static constexpr int kElements = 128 / static_cast<int>(sizeof(T));
  static constexpr int kOfToken = (32 * V + kElements - 1) / kElements;
  const T* at;
  int token;

  // Of x and, unless it is null, of dy; from the second group of the piece on.
  __device__ LineAhead(const ConvShape& shape, const Place& place, int end, const T* x,
                       const T* dy) {
    constexpr int kLines = kOfToken * kGroup;
    static_assert(2 * kLines <= 32);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int64_t c = place.c - lane * V + lane % kOfToken * kElements;
    const bool exists = lane < (dy == nullptr ? kLines : 2 * kLines) && c < shape.channels;
    token = exists ? place.first + kGroup + lane / kOfToken % kGroup : end;
    at = (lane < kLines ? x : dy) + (place.b * shape.tokens + token) * shape.channels + c;
  }
  __device__ void Fetch(const ConvShape& shape, int end) {
    if (token < end) PrefetchLine(at);
    at += kGroup * shape.channels;
    token += kGroup;
  }
};

// A group's rows behind the W - 1 rows before it: row i is token i - (W - 1) of the group.
template <int V, int W, int kGroup>
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

// Sums over the threads of a head, of one value for each token of the group.
template <int kHead, int kGroup>
__device__ void SumOverHead(float (&values)[kGroup]) {
#pragma unroll
  for (int distance = kHead / 2; distance > 0; distance /= 2) {
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      values[g] += __shfl_xor_sync(0xFFFFFFFF, values[g], distance);
    }
  }
}

template <int V, int W, int kHead, int kGroup, typename T>
__global__ void __launch_bounds__(kThreads)
    Forward(ConvShape shape, ConvHeadNorm norm, const T* x, const T* w, const T* history, T* y) {
  const Place at = Place::Of<V>(shape, kPiece);
  if (at.c >= shape.channels) return;
  float taps[W][V];
  Window<V, W, kGroup> window;
  ReadTaps<V, W>(shape, at.c, w, taps);
#pragma unroll
  for (int k = 1; k < W; ++k) {
    ReadInput<V>(shape, at, at.first - k, x, history, window.row[W - 1 - k]);
  }
  const int64_t first = (at.b * shape.tokens + at.first) * shape.channels + at.c;
  const T* next = x + first;
  T* out = y + first;
  Ahead<V, kGroup, T> ahead;
  LineAhead<V, kGroup, T> line(shape, at, at.last, x, nullptr);
  ahead.Read(next, shape.channels, at.last - at.first);
  line.Fetch(shape, at.last);
  for (int t = at.first; t < at.last; t += kGroup) {
#pragma unroll
    for (int g = 0; g < kGroup; ++g) ahead.token[g].Unpack(window.row[W - 1 + g]);
    next += kGroup * shape.channels;
    ahead.Read(next, shape.channels, at.last - t - kGroup);
    line.Fetch(shape, at.last);
    float a[kGroup][V], factor[kGroup] = {};
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
#pragma unroll
      for (int j = 0; j < V; ++j) {
        float z = 0;
#pragma unroll
        for (int k = 0; k < W; ++k) z += taps[k][j] * window.Back(g, k)[j];
        a[g][j] = SiluOf<T>(z);
        if constexpr (kHead > 1) factor[g] += a[g][j] * a[g][j];
      }
    }
    if constexpr (kHead > 1) {
      SumOverHead<kHead, kGroup>(factor);
#pragma unroll
      for (int g = 0; g < kGroup; ++g) {
        factor[g] = 1.0F / sqrtf(factor[g] + norm.eps);
        if (t + g < at.last && threadIdx.x % kHead == 0) {
          const int64_t heads = shape.channels / (kHead * V);
          norm.inverse[(at.b * shape.tokens + t + g) * heads + at.c / (kHead * V)] = factor[g];
        }
        factor[g] *= norm.scale;
      }
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      if (t + g >= at.last) break;
      if constexpr (kHead > 1) {
#pragma unroll
        for (int j = 0; j < V; ++j) a[g][j] *= factor[g];
      }
      StoreWords<V>(out + g * shape.channels, a[g]);
    }
    out += kGroup * shape.channels;
    window.Shift();
  }
}

// da_t = dy_t, or with a norm n (scale dy_t - scale n^2 a_t sum(a_t dy_t)); dz_t = da_t silu'(z_t);
// dx_t = sum_k w_k dz_{t+k}; dw_k = sum_t dz_t x_{t-k}. A piece works on W - 1 tokens of the next
// one too, for its last dx; piece 0 also makes d_history.
template <int V, int W, int kHead, int kGroup, typename T>
__global__ void __launch_bounds__(kThreads)
    Backward(ConvShape shape, ConvHeadNorm norm, const T* x, const T* w, const T* history,
             const T* dy, T* dx, T* d_history, float* partial) {
  const Place at = Place::Of<V>(shape, kConvBackPiece);
  if (at.c >= shape.channels) return;
  float taps[W][V], dw[W][V] = {};
  Window<V, W, kGroup> window, slopes = {};
  ReadTaps<V, W>(shape, at.c, w, taps);
#pragma unroll
  for (int k = 1; k < W; ++k) {
    ReadInput<V>(shape, at, at.first - k, x, history, window.row[W - 1 - k]);
  }
  const int64_t heads = shape.channels / (kHead * V);
  const int end = at.last + W - 1;
  const int limit = min(end, static_cast<int>(shape.tokens));
  const int64_t first = (at.b * shape.tokens + at.first) * shape.channels + at.c;
  const T* x_next = x + first;
  const T* dy_next = dy + first;
  const float* inverse_next =
      norm.inverse + (at.b * shape.tokens + at.first) * heads + at.c / (kHead * V);
  int64_t out_at = first - (W - 1) * shape.channels;  // of the token that is complete first
  Ahead<V, kGroup, T> x_ahead, dy_ahead;
  LineAhead<V, kGroup, T> line(shape, at, limit, x, dy);
  if constexpr (kHead > 1) {
    constexpr int kFloats = 32;  // of a line
    const float* norms = norm.inverse + (at.b * shape.tokens + at.first) * heads;
    const int count = (limit - at.first) * static_cast<int>(heads);
    for (int i = threadIdx.x * kFloats; i < count; i += kThreads * kFloats) PrefetchLine(norms + i);
  }
  float inverse_ahead[kGroup];
  const auto read_ahead = [&](int count) {
    x_ahead.Read(x_next, shape.channels, count);
    dy_ahead.Read(dy_next, shape.channels, count);
    x_next += kGroup * shape.channels;
    dy_next += kGroup * shape.channels;
    if constexpr (kHead > 1) {
#pragma unroll
      for (int g = 0; g < kGroup; ++g)
        inverse_ahead[g] = g < count ? inverse_next[g * heads] : 0.0F;
      inverse_next += kGroup * heads;
    }
    line.Fetch(shape, limit);
  };
  read_ahead(limit - at.first);
  for (int t = at.first; t < end; t += kGroup) {
    float a[kGroup][V], dot[kGroup] = {};  // a and dy below times silu'(z) with a norm
    float inverse[kGroup];
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      x_ahead.token[g].Unpack(window.row[W - 1 + g]);
      dy_ahead.token[g].Unpack(slopes.row[W - 1 + g]);
      inverse[g] = inverse_ahead[g];
    }
    read_ahead(limit - t - kGroup);
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
#pragma unroll
      for (int j = 0; j < V; ++j) {
        float z = 0;
#pragma unroll
        for (int k = 0; k < W; ++k) z += taps[k][j] * window.Back(g, k)[j];
        const float s = SigmoidOf<T>(z);
        const float slope = s * (1.0F + z * (1.0F - s));
        float& dz = slopes.row[W - 1 + g][j];
        if constexpr (kHead > 1) {
          dot[g] += z * s * dz;
          a[g][j] = z * s * slope;
        }
        dz *= slope;
      }
    }
    if constexpr (kHead > 1) {
      SumOverHead<kHead, kGroup>(dot);
#pragma unroll
      for (int g = 0; g < kGroup; ++g) {
        const float n = inverse[g];
        const float along = n * n * dot[g];
#pragma unroll
        for (int j = 0; j < V; ++j) {
          float& dz = slopes.row[W - 1 + g][j];
          dz = norm.scale * n * (dz - a[g][j] * along);
        }
      }
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      if (t + g < at.last) {
#pragma unroll
        for (int k = 0; k < W; ++k) {
#pragma unroll
          for (int j = 0; j < V; ++j) dw[k][j] += slopes.Back(g, 0)[j] * window.Back(g, k)[j];
        }
      }
      const int done = t + g - (W - 1);  // the token whose dx is complete now
      if (done >= at.last) break;
      if (done < at.first && (at.first > 0 || d_history == nullptr || done < 1 - shape.taps)) {
        continue;
      }
      float out[V];
#pragma unroll
      for (int j = 0; j < V; ++j) {
        out[j] = 0;
#pragma unroll
        for (int k = 0; k < W; ++k) out[j] += taps[k][j] * slopes.Back(g, W - 1 - k)[j];
      }
      T* const to =
          done >= 0 ? dx + out_at + g * shape.channels
                    : d_history +
                          (at.b * (shape.taps - 1) + shape.taps - 1 + done) * shape.channels + at.c;
      StoreWords<V>(to, out);
    }
    out_at += kGroup * shape.channels;
    window.Shift();
    slopes.Shift();
  }
  float* sums = partial + (at.b * gridDim.y + blockIdx.y) * shape.channels * shape.taps;
#pragma unroll
  for (int j = 0; j < V; ++j) {
#pragma unroll
    for (int k = 0; k < W; ++k) {
      if (k < shape.taps) sums[(at.c + j) * shape.taps + k] = dw[k][j];
    }
  }
}

inline dim3 Grid(const ConvShape& shape, int width, int64_t piece) {
  return {static_cast<unsigned>(CeilDiv(shape.channels, int64_t{kThreads} * width)),
          static_cast<unsigned>(CeilDiv(shape.tokens, piece)), static_cast<unsigned>(shape.batch)};
}

}  // namespace conv_internal

template <int V, int W, int kHead, int kGroup, typename T>
cudaError_t ConvForward(const CudaLaunch& on, const ConvShape& shape, const ConvHeadNorm& norm,
                        const T* x, const T* w, const T* history, T* y) {
  conv_internal::Forward<V, W, kHead, kGroup>
      <<<conv_internal::Grid(shape, V, conv_internal::kPiece), conv_internal::kThreads, 0,
         on.stream>>>(shape, norm, x, w, history, y);
  return cudaGetLastError();
}

// dw is added to.
template <int V, int W, int kHead, int kGroup, typename T>
cudaError_t ConvBackward(const CudaLaunch& on, const ConvShape& shape, const ConvHeadNorm& norm,
                         const T* x, const T* w, const T* history, const T* dy, T* dx, T* d_history,
                         float* dw, float* partial) {
  const dim3 grid = conv_internal::Grid(shape, V, kConvBackPiece);
  conv_internal::Backward<V, W, kHead, kGroup><<<grid, conv_internal::kThreads, 0, on.stream>>>(
      shape, norm, x, w, history, dy, dx, d_history, partial);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) return error;
  return AddParts(on, shape.batch * grid.y, shape.channels * shape.taps, partial, dw);
}

}  // namespace weft::kernels
