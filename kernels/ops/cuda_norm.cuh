// RMSNorm and LayerNorm on CUDA: what both share. For op code only.
//
// kThreads threads share a row and each holds kParts pieces of V neighbouring channels of it in
// registers, so a row is read once. The gradients of the parameters are summed by each group of
// threads over its rows, then over the groups of a block, then over the blocks, always in one
// order.
#pragma once

#include "kernels/device/cuda/reduce.cuh"
#include "kernels/ops/cuda_column_sums.cuh"

namespace weft::kernels {

inline constexpr int kNormBlock = 128;

struct NormShape {
  int64_t rows = 0;
  int channels = 0;
};

// Calls f.template operator()<V, kThreads, kParts>() for a row of `channels`; cudaErrorInvalidValue
// when it is too wide.
template <typename T, typename F>
cudaError_t ForRowShape(int channels, bool aligned, const F& f) {
  constexpr int V = kVector<T>;
  if (aligned && channels % V == 0) {
    if (channels <= 16 * V) return f.template operator()<V, 16, 1>();
    if (channels <= kNormBlock * V) return f.template operator()<V, kNormBlock, 1>();
    if (channels <= 2 * kNormBlock * V) return f.template operator()<V, kNormBlock, 2>();
    if (channels <= 8 * kNormBlock * V) return f.template operator()<V, kNormBlock, 8>();
    return cudaErrorInvalidValue;
  }
  if (channels <= 16) return f.template operator()<1, 16, 1>();
  if (channels <= 4 * kNormBlock) return f.template operator()<1, kNormBlock, 4>();
  if (channels <= 32 * kNormBlock) return f.template operator()<1, kNormBlock, 32>();
  return cudaErrorInvalidValue;
}

// This thread's part of a row: element j of piece p is channel Channel(p) + j.
template <int V, int kThreads, int kParts>
struct RowPart {
  float x[kParts][V];

  __device__ static int Channel(int part) {
    return (part * kThreads + static_cast<int>(threadIdx.x) % kThreads) * V;
  }
  // Channels outside the row are 0.
  template <typename T>
  __device__ void Read(const T* row, int channels) {
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      if (Channel(p) < channels) {
        Load<V>(row + Channel(p), x[p]);
      } else {
#pragma unroll
        for (int j = 0; j < V; ++j) x[p][j] = 0;
      }
    }
  }
  template <typename T>
  __device__ void Write(T* row, int channels) const {
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      if (Channel(p) < channels) Store<V>(row + Channel(p), x[p]);
    }
  }
  __device__ bool Has(int part, int channels) const { return Channel(part) < channels; }
};

// y = w * (x - mean) * rstd + b, with kCentred; else mean and b are not there and count as 0.
template <bool kCentred, int V, int kThreads, int kParts, typename T>
__global__ void __launch_bounds__(kNormBlock)
    NormForwardKernel(NormShape shape, float eps, const T* x, const T* w, const T* b, T* y,
                      float* mean, float* rstd) {
  __shared__ float shared[32];
  constexpr int kGroups = kNormBlock / kThreads;
  const int64_t row = int64_t{blockIdx.x} * kGroups + threadIdx.x / kThreads;
  const bool exists = row < shape.rows;
  RowPart<V, kThreads, kParts> part;
  // A group without a row goes along for the barriers.
  part.Read(x + (exists ? row : 0) * shape.channels, shape.channels);
  const float scale = 1.0F / static_cast<float>(shape.channels);
  float centre = 0;
  if constexpr (kCentred) {
    float sum = 0;
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
#pragma unroll
      for (int j = 0; j < V; ++j) sum += part.x[p][j];
    }
    centre = RowSum<kThreads>(sum, shared) * scale;
  }
  float squares = 0;
#pragma unroll
  for (int p = 0; p < kParts; ++p) {
    if (!part.Has(p, shape.channels)) continue;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      part.x[p][j] -= centre;
      squares += part.x[p][j] * part.x[p][j];
    }
  }
  const float inverse = 1.0F / sqrtf(RowSum<kThreads>(squares, shared) * scale + eps);
  if (!exists) return;
#pragma unroll
  for (int p = 0; p < kParts; ++p) {
    if (!part.Has(p, shape.channels)) continue;
    float weights[V], shifts[V] = {};
    Load<V>(w + part.Channel(p), weights);
    if constexpr (kCentred) Load<V>(b + part.Channel(p), shifts);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      part.x[p][j] = weights[j] * (part.x[p][j] * inverse) + shifts[j];
    }
  }
  part.Write(y + row * shape.channels, shape.channels);
  if (threadIdx.x % kThreads == 0) {
    if constexpr (kCentred) mean[row] = centre;
    rstd[row] = inverse;
  }
}

// With g = w * dy and n = (x - mean) * rstd: dx (+)= rstd * (g - mean(g) - n * mean(g * n)), where
// mean(g) counts with kCentred only. partial[blocks][C] becomes the sums of dy * n over each
// block's rows and, with kCentred, partial[blocks + block] those of dy.
template <bool kCentred, int V, int kThreads, int kParts, typename T>
__global__ void __launch_bounds__(kNormBlock)
    NormBackwardKernel(NormShape shape, int64_t rows_of_block, bool accumulate, const T* x,
                       const T* w, const float* mean, const float* rstd, const T* dy, T* dx,
                       float* partial) {
  __shared__ float shared[32];
  constexpr int kGroups = kNormBlock / kThreads;
  const int channels = shape.channels;
  const int group = threadIdx.x / kThreads;
  const int64_t first = int64_t{blockIdx.x} * rows_of_block;
  const float scale = 1.0F / static_cast<float>(channels);
  using Part = RowPart<V, kThreads, kParts>;
  float dw[kParts][V] = {}, db[kParts][V] = {};
  for (int64_t i = 0; i < rows_of_block; i += kGroups) {
    const int64_t row = first + i + group;
    const bool exists = i + group < rows_of_block && row < shape.rows;
    const int64_t at = (exists ? row : 0) * channels;
    const float inverse = exists ? rstd[row] : 0.0F;
    const float centre = kCentred && exists ? mean[row] : 0.0F;
    Part n, g, before;
    n.Read(x + at, channels);
    g.Read(dy + at, channels);
    // Beside the others, unless so many registers would be too much.
    if (accumulate && kParts <= 2) before.Read(dx + at, channels);
    float sum_g = 0, sum_gn = 0;
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      if (!n.Has(p, channels)) continue;
      float weights[V];
      Load<V>(w + Part::Channel(p), weights);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        n.x[p][j] = (n.x[p][j] - centre) * inverse;
        const float slope = exists ? g.x[p][j] : 0.0F;
        dw[p][j] += slope * n.x[p][j];
        if constexpr (kCentred) db[p][j] += slope;
        g.x[p][j] = weights[j] * slope;
        sum_g += g.x[p][j];
        sum_gn += g.x[p][j] * n.x[p][j];
      }
    }
    const float mean_g = kCentred ? RowSum<kThreads>(sum_g, shared) * scale : 0.0F;
    const float mean_gn = RowSum<kThreads>(sum_gn, shared) * scale;
    if (!exists) continue;
    if (accumulate && kParts > 2) before.Read(dx + at, channels);
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const float value = inverse * (g.x[p][j] - mean_g - n.x[p][j] * mean_gn);
        g.x[p][j] = accumulate ? before.x[p][j] + value : value;
      }
    }
    g.Write(dx + at, channels);
  }
  // The groups of a block in their order.
  __shared__ float of_group[kGroups > 1 ? kGroups : 1][kGroups > 1 ? kThreads * V * kParts : 1];
  const auto write = [&](const float(&sums)[kParts][V], float* out) {
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      if (Part::Channel(p) >= channels) continue;
#pragma unroll
      for (int j = 0; j < V; ++j) {
        if constexpr (kGroups > 1) {
          of_group[group][Part::Channel(p) + j] = sums[p][j];
        } else {
          out[Part::Channel(p) + j] = sums[p][j];
        }
      }
    }
    if constexpr (kGroups > 1) {
      __syncthreads();
      for (int c = threadIdx.x; c < channels; c += kNormBlock) {
        float sum = 0;
        for (int other = 0; other < kGroups; ++other) sum += of_group[other][c];
        out[c] = sum;
      }
      __syncthreads();
    }
  };
  write(dw, partial + int64_t{blockIdx.x} * channels);
  if constexpr (kCentred) write(db, partial + (int64_t{gridDim.x} + blockIdx.x) * channels);
}

template <bool kCentred, typename T>
cudaError_t NormForward(const CudaLaunch& on, NormShape shape, float eps, const T* x, const T* w,
                        const T* b, T* y, float* mean, float* rstd) {
  if (shape.rows == 0) return cudaSuccess;
  const bool aligned = IsAligned(x) && IsAligned(w) && IsAligned(b) && IsAligned(y);
  return ForRowShape<T>(shape.channels, aligned, [&]<int V, int kThreads, int kParts>() {
    const auto blocks = static_cast<unsigned>(CeilDiv(shape.rows, kNormBlock / kThreads));
    NormForwardKernel<kCentred, V, kThreads, kParts>
        <<<blocks, kNormBlock, 0, on.stream>>>(shape, eps, x, w, b, y, mean, rstd);
    return cudaGetLastError();
  });
}

// Blocks of the backward kernel, of 132 multiprocessors: as many as run at a time with wide rows,
// which take many registers, and eight for each with others.
constexpr int64_t NormBlocks(NormShape shape) {
  const int64_t blocks = shape.channels > 1024 ? 5 * kRowParts / 2 : 4 * kRowParts;
  return shape.rows < blocks ? shape.rows : blocks;
}
// Floats of its working space.
constexpr int64_t NormPartials(NormShape shape, bool centred) {
  return (centred ? 2 : 1) * NormBlocks(shape) * shape.channels;
}

// db is null unless kCentred.
template <bool kCentred, typename T>
cudaError_t NormBackward(const CudaLaunch& on, NormShape shape, bool accumulate, const T* x,
                         const T* w, const float* mean, const float* rstd, const T* dy, T* dx,
                         float* dw, float* db, float* partial) {
  if (shape.rows == 0) return cudaSuccess;
  const bool aligned = IsAligned(x) && IsAligned(w) && IsAligned(dy) && IsAligned(dx);
  const int64_t rows_of_block = CeilDiv(shape.rows, NormBlocks(shape));
  const int64_t blocks = CeilDiv(shape.rows, rows_of_block);
  const cudaError_t error =
      ForRowShape<T>(shape.channels, aligned, [&]<int V, int kThreads, int kParts>() {
        NormBackwardKernel<kCentred, V, kThreads, kParts>
            <<<static_cast<unsigned>(blocks), kNormBlock, 0, on.stream>>>(
                shape, rows_of_block, accumulate, x, w, mean, rstd, dy, dx, partial);
        return cudaGetLastError();
      });
  if (error != cudaSuccess) return error;
  const cudaError_t weights = AddParts(on, blocks, shape.channels, partial, dw);
  if (weights != cudaSuccess || !kCentred) return weights;
  return AddParts(on, blocks, shape.channels, partial + blocks * shape.channels, db);
}

}  // namespace weft::kernels
