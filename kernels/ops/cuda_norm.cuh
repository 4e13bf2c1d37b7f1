// RMSNorm and LayerNorm on CUDA: what both share. For op code only.
//
// kThreads threads share a row and each holds kParts pieces of V neighbouring channels of it in
// registers, so a row is read once. The gradients of the parameters are summed by each group of
// threads over its rows, then over the groups of a block, then over the blocks, always in one
// order.
#pragma once

#include "kernels/device/cuda/packed.cuh"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/ops/cuda_column_sums.cuh"

namespace weft::kernels {

inline constexpr int kNormBlock = 128;

struct NormShape {
  int64_t rows = 0;
  int channels = 0;
};

// Calls f.template operator()<V, kThreads, kParts>() for a row of `channels`; cudaErrorInvalidValue
// when it is too wide. Here for rows that cannot be read in vectors.
template <typename F>
cudaError_t ForSingles(int channels, const F& f) {
  if (channels <= 16) return f.template operator()<1, 16, 1>();
  if (channels <= 4 * kNormBlock) return f.template operator()<1, kNormBlock, 4>();
  if (channels <= 32 * kNormBlock) return f.template operator()<1, kNormBlock, 32>();
  return cudaErrorInvalidValue;
}

// With kWarps a warp takes a whole row where it can, and waits for no other.
template <typename T, bool kWarps, typename F>
cudaError_t ForRowShape(int channels, bool aligned, const F& f) {
  constexpr int V = kVector<T>;
  if (!aligned || channels % V != 0) return ForSingles(channels, f);
  if (channels <= 16 * V) return f.template operator()<V, 16, 1>();
  if constexpr (kWarps) {
    if (channels <= 4 * 32 * V) return f.template operator()<V, 32, 4>();
  }
  if (channels <= kNormBlock * V) return f.template operator()<V, kNormBlock, 1>();
  if (channels <= 2 * kNormBlock * V) return f.template operator()<V, kNormBlock, 2>();
  if (channels <= 8 * kNormBlock * V) return f.template operator()<V, kNormBlock, 8>();
  return cudaErrorInvalidValue;
}

// For the backward kernel, whose blocks are not always of kNormBlock threads: as many share a row
// as leave each one piece of it.
template <typename T, typename F>
cudaError_t ForBackwardShape(int channels, bool aligned, const F& f) {
  constexpr int V = kVector<T>;
  if (!aligned || channels % V != 0) return ForSingles(channels, f);
  if (channels <= 16 * V) return f.template operator()<V, 16, 1>();
  if (channels <= 96 * V) return f.template operator()<V, 96, 1>();
  if (channels <= 128 * V) return f.template operator()<V, 128, 1>();
  if (channels <= 256 * V) return f.template operator()<V, 256, 1>();
  if (channels <= 4 * 256 * V) return f.template operator()<V, 256, 4>();
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

// The part of a row that this thread has, as it lies in memory; zeros outside the row.
template <int V, int kThreads, int kParts, typename T>
struct PackedPart {
  Packed<V, T> part[kParts];

  // `own`: the thread's first channel in the row.
  __device__ void Read(const T* own, int channels) {
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      if (RowPart<V, kThreads, kParts>::Channel(p) < channels) {
        part[p].Read(own + p * kThreads * V);
      } else {
        part[p].Clear();
      }
    }
  }
  __device__ void Clear() {
#pragma unroll
    for (int p = 0; p < kParts; ++p) part[p].Clear();
  }
};

// The sums of a and of b over the threads that share a row; all of them get both. `turn` alternates
// from call to call: so one barrier is enough.
template <int kThreads, int kWarps>
__device__ inline void RowSums(int turn, float2 (&shared)[2][kWarps], float& a, float& b) {
  a = GroupReduce<(kThreads < 32 ? kThreads : 32)>(a, AddOf());
  b = GroupReduce<(kThreads < 32 ? kThreads : 32)>(b, AddOf());
  if constexpr (kThreads > 32) {
    if (threadIdx.x % 32 == 0) shared[turn][threadIdx.x / 32] = {a, b};
    __syncthreads();
    a = shared[turn][0].x;
    b = shared[turn][0].y;
#pragma unroll
    for (int warp = 1; warp < kThreads / 32; ++warp) {
      a += shared[turn][warp].x;
      b += shared[turn][warp].y;
    }
  }
}

// Of the backward kernel: threads of a block, and blocks that a multiprocessor has at a time: as
// many as registers allow. 768 threads of 80 registers spill a few of three sums; that costs less
// than fewer threads, but not where 256 of them wait for each other.
constexpr int NormBackwardBlock(int threads) { return threads > 32 ? threads : kNormBlock; }
constexpr int NormBlocksAtATime(int threads, int parts, bool sums_dx) {
  if (parts > 1) return 1;
  return threads == 256 && sums_dx ? 2 : 768 / NormBackwardBlock(threads);
}

// With g = w * dy and n = (x - mean) * rstd: dx (+)= rstd * (g - mean(g) - n * mean(g * n)), where
// mean(g) counts with kCentred only. partial[blocks][C] becomes the sums of dy * n over each
// block's rows; behind them stand, with kCentred, those of dy and then, with kSumsDx, those of dx
// as it was before. While a row is worked on, the next one is on its way, unless it would take too
// many registers.
template <bool kCentred, bool kSumsDx, int V, int kThreads, int kParts, typename T>
__global__ void __launch_bounds__(NormBackwardBlock(kThreads),
                                  NormBlocksAtATime(kThreads, kParts, kSumsDx))
    NormBackwardKernel(NormShape shape, int64_t rows_of_block, bool accumulate, const T* x,
                       const T* w, const float* mean, const float* rstd, const T* dy, T* dx,
                       float* partial) {
  constexpr int kBlock = NormBackwardBlock(kThreads);
  constexpr int kGroups = kBlock / kThreads;
  constexpr bool kAhead = kParts == 1;
  __shared__ float2 shared[2][kBlock / 32];
  const bool adds = kSumsDx || accumulate;
  const int channels = shape.channels;
  const int group = threadIdx.x / kThreads;
  const int64_t first = int64_t{blockIdx.x} * rows_of_block;
  const int64_t last = min(first + rows_of_block, shape.rows);
  const float scale = 1.0F / static_cast<float>(channels);
  using Part = RowPart<V, kThreads, kParts>;
  struct Operands {
    PackedPart<V, kThreads, kParts, T> x, dy, before;
    float inverse, centre;
  };
  // The thread's first element of a row.
  const auto own = [&](int64_t row) { return row * channels + Part::Channel(0); };
  // A group without a row goes along for the barriers, with zeros.
  const auto read = [&](int64_t row, Operands& to) {
    const bool exists = row < last;
    to.inverse = exists ? rstd[row] : 0.0F;
    to.centre = kCentred && exists ? mean[row] : 0.0F;
    if (exists) {
      const int64_t at = own(row);
      to.x.Read(x + at, channels);
      to.dy.Read(dy + at, channels);
      if (kAhead && adds) to.before.Read(dx + at, channels);
    } else {
      to.x.Clear();
      to.dy.Clear();
    }
  };
  float dw[kParts][V] = {}, db[kParts][V] = {}, dx_sums[kParts][V] = {};
  Operands next;
  next.before.Clear();
  if (kAhead) read(first + group, next);
  int turn = 0;
  for (int64_t begin = first; begin < last; begin += kGroups, turn ^= 1) {
    const int64_t row = begin + group;
    if (!kAhead) read(row, next);
    Operands now = next;
    if (kAhead) read(row + kGroups, next);
    Part n, g;
    float sum_g = 0, sum_gn = 0;
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      if (!n.Has(p, channels)) continue;
      float weights[V];
      Load<V>(w + Part::Channel(p), weights);
      now.x.part[p].Unpack(n.x[p]);
      now.dy.part[p].Unpack(g.x[p]);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        n.x[p][j] = (n.x[p][j] - now.centre) * now.inverse;
        dw[p][j] += g.x[p][j] * n.x[p][j];
        if constexpr (kCentred) db[p][j] += g.x[p][j];
        g.x[p][j] *= weights[j];
        sum_g += g.x[p][j];
        sum_gn += g.x[p][j] * n.x[p][j];
      }
    }
    RowSums<kThreads>(turn, shared, sum_g, sum_gn);
    if (row >= last) continue;
    const int64_t at = own(row);
    const float mean_g = kCentred ? sum_g * scale : 0.0F;
    const float mean_gn = sum_gn * scale;
    if (!kAhead && adds) now.before.Read(dx + at, channels);
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      if (!n.Has(p, channels)) continue;
      float before[V];
      now.before.part[p].Unpack(before);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const float value = now.inverse * (g.x[p][j] - mean_g - n.x[p][j] * mean_gn);
        if constexpr (kSumsDx) dx_sums[p][j] += before[j];
        g.x[p][j] = before[j] + value;
      }
      Store<V>(dx + at + p * kThreads * V, g.x[p]);
    }
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
      for (int c = threadIdx.x; c < channels; c += kBlock) {
        float sum = 0;
        for (int other = 0; other < kGroups; ++other) sum += of_group[other][c];
        out[c] = sum;
      }
      __syncthreads();
    }
  };
  partial += int64_t{blockIdx.x} * channels;
  const int64_t all_blocks = int64_t{gridDim.x} * channels;
  write(dw, partial);
  if constexpr (kCentred) write(db, partial + all_blocks);
  if constexpr (kSumsDx) write(dx_sums, partial + (kCentred ? 2 : 1) * all_blocks);
}

template <bool kCentred, typename T>
cudaError_t NormForward(const CudaLaunch& on, NormShape shape, float eps, const T* x, const T* w,
                        const T* b, T* y, float* mean, float* rstd) {
  if (shape.rows == 0) return cudaSuccess;
  const bool aligned = IsAligned(x) && IsAligned(w) && IsAligned(b) && IsAligned(y);
  return ForRowShape<T, true>(shape.channels, aligned, [&]<int V, int kThreads, int kParts>() {
    const auto blocks = static_cast<unsigned>(CeilDiv(shape.rows, kNormBlock / kThreads));
    NormForwardKernel<kCentred, V, kThreads, kParts>
        <<<blocks, kNormBlock, 0, on.stream>>>(shape, eps, x, w, b, y, mean, rstd);
    return cudaGetLastError();
  });
}

// Blocks of the backward kernel: as many as 132 multiprocessors have at a time, with the threads
// and parts that bf16 rows get.
constexpr int64_t NormBlocks(NormShape shape, bool sums_dx) {
  const int channels = shape.channels;
  const int threads = channels <= 128 ? 16 : channels <= 768 ? 96 : channels <= 1024 ? 128 : 256;
  const int of_each = NormBlocksAtATime(threads, channels > 2048 ? 4 : 1, sums_dx);
  const int64_t blocks = of_each * kRowParts / 2;
  return shape.rows < blocks ? shape.rows : blocks;
}
// Floats of its working space.
constexpr int64_t NormPartials(NormShape shape, bool centred, bool sums_dx) {
  return (1 + (centred ? 1 : 0) + (sums_dx ? 1 : 0)) * NormBlocks(shape, sums_dx) * shape.channels;
}

// db is null unless kCentred; dx_sums may be null and is unless `accumulate`.
template <bool kCentred, typename T>
cudaError_t NormBackward(const CudaLaunch& on, NormShape shape, bool accumulate, const T* x,
                         const T* w, const float* mean, const float* rstd, const T* dy, T* dx,
                         float* dw, float* db, float* dx_sums, float* partial) {
  if (shape.rows == 0) return cudaSuccess;
  const bool aligned = IsAligned(x) && IsAligned(w) && IsAligned(dy) && IsAligned(dx);
  const int64_t rows_of_block = CeilDiv(shape.rows, NormBlocks(shape, dx_sums != nullptr));
  const int64_t blocks = CeilDiv(shape.rows, rows_of_block);
  const cudaError_t error =
      ForBackwardShape<T>(shape.channels, aligned, [&]<int V, int kThreads, int kParts>() {
        const auto launch = [&]<bool kSumsDx>() {
          NormBackwardKernel<kCentred, kSumsDx, V, kThreads, kParts>
              <<<static_cast<unsigned>(blocks), NormBackwardBlock(kThreads), 0, on.stream>>>(
                  shape, rows_of_block, accumulate, x, w, mean, rstd, dy, dx, partial);
          return cudaGetLastError();
        };
        return dx_sums == nullptr ? launch.template operator()<false>()
                                  : launch.template operator()<true>();
      });
  if (error != cudaSuccess) return error;
  return AddParts(on, blocks, shape.channels, partial, dw, db, dx_sums);
}

}  // namespace weft::kernels
