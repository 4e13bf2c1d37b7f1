// Results and gradients of 64 tokens: what comes from the state, then the pairs of the segment.
#include "kernels/attention/cuda/tile_product.cuh"
#include "kernels/attention/linear_attention/cuda/portable_head.cuh"
#include "kernels/device/cuda/reduce.cuh"

namespace weft::kernels {
namespace {

// The 64 tokens of a block and the columns of its result.
struct TilePlace {
  __device__ explicit TilePlace(const LinearCudaShape& shape)
      : tiles((shape.tokens + kTile - 1) / kTile),
        head(blockIdx.x / tiles),
        rows(shape, head),
        t(static_cast<int>(blockIdx.x % tiles) * kTile),
        count(min(kTile, shape.tokens - t)),
        column(static_cast<int>(blockIdx.y) * kTile),
        segment(t / shape.segment_tokens),
        begin(segment * shape.segment_tokens),
        end(min(begin + shape.segment_tokens, shape.tokens)) {}

  // Of [B, H, states, state].
  __device__ const float* State(const float* states) const {
    const LinearCudaShape& shape = rows.shape;
    const int64_t at = head * shape.States() + (shape.causal ? segment : 0);
    return states + at * shape.StateSize();
  }

  int tiles;
  int64_t head;
  LinearHeadPlace rows;
  int t;
  int count;
  int column;
  int segment;
  int begin;  // of the segment
  int end;
};

// exp(level_j - m_i), or 1 where there are no levels; `row` of the head in [B, H, T].
__device__ float PairFactor(const LinearLevels& levels, int64_t row, int query, int key) {
  if (levels.key == nullptr) return 1;
  return expf(levels.key[row + key] - UnitOf(levels.running[row + query]));
}

// R as an operand: columns of values from `first` on, features as depth; or the other way round.
__device__ Panel<float> StateByValues(const LinearCudaShape& shape, const float* state, int first) {
  return {.at = state + first,
          .row_stride = 1,
          .depth_stride = shape.value_dim,
          .rows = shape.value_dim - first,
          .depth = shape.features};
}
__device__ Panel<float> StateByFeatures(const LinearCudaShape& shape, const float* state,
                                        int first) {
  return {.at = state + int64_t{first} * shape.value_dim,
          .row_stride = shape.value_dim,
          .depth_stride = 1,
          .rows = shape.features - first,
          .depth = shape.value_dim};
}
__device__ const float* SumsOf(const LinearCudaShape& shape, const float* state) {
  return state + int64_t{shape.features} * shape.value_dim;
}

// q' . z for the queries of a tile, four threads for each.
__device__ void ReadSums(const Panel<float>& q, const float* z, float (&sums)[kTile]) {
  const int i = static_cast<int>(threadIdx.x) / 4;
  float sum = 0;
  for (int l = static_cast<int>(threadIdx.x) % 4; i < q.rows && l < q.depth; l += 4) {
    sum += q.at[i * q.row_stride + l] * z[l];
  }
  sum = GroupReduce<4>(sum, AddOf());
  if (threadIdx.x % 4 == 0) sums[i] = sum;
}

template <typename T>
__global__ void __launch_bounds__(kTileThreads) Outputs(LinearOutputsArgs args) {
  __shared__ Slabs<T> slabs;
  __shared__ SharedTile<T> weights;
  __shared__ float denominators[kTile];
  const LinearCudaShape& shape = args.shape;
  const TilePlace at(shape);
  const int64_t row = at.rows.row;
  const Panel<float> q = at.rows.Features(args.q, at.t, at.count);
  const float* const state = at.State(args.states);
  float o[4][4] = {};
  TileProduct(o, q, StateByValues(shape, state, at.column), slabs);
  ReadSums(q, SumsOf(shape, state), denominators);
  __syncthreads();
  // Sums of weights of the thread's two rows: in the end those of all its columns.
  float sums[2] = {};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int query = TileRow() + 8 * i;
    const bool fades = args.levels.fading != nullptr && query < at.count;
    const float fading = fades ? args.levels.fading[row + at.t + query] : 1.0F;
    if (TileColumn() == 0) sums[i] = fading * denominators[query];
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      o[n][2 * i] *= fading;
      o[n][2 * i + 1] *= fading;
    }
  }
  const auto* const v = static_cast<const T*>(args.v);
  for (int first = at.begin; shape.causal && first <= at.t; first += kTile) {
    const int count = min(kTile, shape.tokens - first);
    float a[4][4] = {};
    TileProduct(a, q, at.rows.Features(args.k, first, count), slabs);
    __syncthreads();
    ForTile(kTile, kTile, [&](int n, int e, int query, int key) {
      const bool seen = query < at.count && key < count && first + key <= at.t + query;
      const float weight =
          seen ? a[n][e] * PairFactor(args.levels, row, at.t + query, first + key) : 0.0F;
      sums[e / 2] += weight;
      weights.Set(query, key, weight);
    });
    TileProduct(o, weights, Transposed(at.rows.Values(v, first, count), at.column), slabs);
  }
  // Four threads of each of two warps have a row.
  __syncthreads();
  __shared__ float halves[2][kTile];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float sum = GroupReduce<4>(sums[i], AddOf());
    if (threadIdx.x % 4 == 0) halves[threadIdx.x / 128][TileRow() + 8 * i] = sum;
  }
  __syncthreads();
  ForTile(at.count, shape.value_dim - at.column, [&](int n, int e, int query, int column) {
    float sum = halves[0][query] + halves[1][query];
    if (!args.lift_small) {
      sum += args.guard_epsilon;
    } else if (fabsf(sum) <= args.guard_epsilon) {
      sum += 2.0F * args.guard_epsilon;
    }
    const int64_t to =
        ((at.rows.token + at.t + query) * shape.heads + at.rows.index) * shape.value_dim +
        at.column + column;
    static_cast<T*>(args.o)[to] = FromFloat<T>(sum == 0 ? 0.0F : o[n][e] / sum);
    if (at.column + column == 0 && args.denominators != nullptr) {
      args.denominators[row + at.t + query] = sum;
    }
  });
}

// ---- Backward

constexpr int kWarps = 8;

// A warp for each row of o.
template <typename T>
__global__ void __launch_bounds__(kWarps * 32)
    Slopes(LinearCudaShape shape, const T* o, const T* d_o, const float* denominators,
           const float* fading, LinearSlopes slopes) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (row >= int64_t{shape.batch} * shape.tokens * shape.heads) return;
  float dot = 0;
  for (int j = lane; j < shape.value_dim; j += 32) {
    dot += ToFloat(o[row * shape.value_dim + j]) * ToFloat(d_o[row * shape.value_dim + j]);
  }
  dot = GroupReduce<32>(dot, AddOf());
  if (lane > 0) return;
  const int64_t token = row / shape.heads;
  const int64_t to = (token / shape.tokens * shape.heads + row % shape.heads) * shape.tokens +
                     token % shape.tokens;
  const float denominator = denominators[to];
  const float inverse = denominator == 0 ? 0.0F : 1.0F / denominator;
  const float fade = fading == nullptr ? 1.0F : fading[to];
  slopes.inverse[to] = inverse;
  slopes.slopes[to] = -inverse * dot;
  slopes.faded_inverse[to] = fade * inverse;
  slopes.faded_slopes[to] = -fade * inverse * dot;
}

// dA of query i and key j, from dO . V.
__device__ float PairSlope(const LinearGradientsArgs& args, int64_t row, int query, int key,
                           float product) {
  return (args.slopes.inverse[row + query] * product + args.slopes.slopes[row + query]) *
         PairFactor(args.levels, row, query, key);
}

// Stores d_f of a tile.
__device__ void StoreFeatures(const TilePlace& at, const float (&d)[4][4], float* d_f) {
  const LinearCudaShape& shape = at.rows.shape;
  ForTile(at.count, shape.features - at.column, [&](int n, int e, int t, int l) {
    d_f[((at.rows.token + at.t + t) * shape.heads + at.rows.index) * shape.features + at.column +
        l] = d[n][e];
  });
}

// dQ' = dA K' + N R^T + u z^T.
template <typename T>
__global__ void __launch_bounds__(kTileThreads)
    QueryGradients(LinearGradientsArgs args, float* d_f) {
  __shared__ Slabs<T> slabs;
  __shared__ SharedTile<T> weights;
  const LinearCudaShape& shape = args.shape;
  const TilePlace at(shape);
  const int64_t row = at.rows.row;
  const Panel<T> d_o = at.rows.Values(static_cast<const T*>(args.d_o), at.t, at.count);
  const float* const state = at.State(args.states);
  float d[4][4] = {};
  TileProduct(d, d_o, StateByFeatures(shape, state, at.column), slabs);
  ForTile(at.count, shape.features - at.column, [&](int n, int e, int query, int l) {
    d[n][e] = args.slopes.faded_inverse[row + at.t + query] * d[n][e] +
              args.slopes.faded_slopes[row + at.t + query] * SumsOf(shape, state)[at.column + l];
  });
  for (int first = at.begin; shape.causal && first <= at.t; first += kTile) {
    const int count = min(kTile, shape.tokens - first);
    float a[4][4] = {};
    TileProduct(a, d_o, at.rows.Values(static_cast<const T*>(args.v), first, count), slabs);
    __syncthreads();
    ForTile(kTile, kTile, [&](int n, int e, int query, int key) {
      const bool seen = query < at.count && key < count && first + key <= at.t + query;
      weights.Set(query, key,
                  seen ? PairSlope(args, row, at.t + query, first + key, a[n][e]) : 0.0F);
    });
    TileProduct(d, weights, Transposed(at.rows.Features(args.k, first, count), at.column), slabs);
  }
  StoreFeatures(at, d, d_f);
}

// dK' = dA^T Q' + V dR^T + 1 dz^T.
template <typename T>
__global__ void __launch_bounds__(kTileThreads) KeyGradients(LinearGradientsArgs args, float* d_f) {
  __shared__ Slabs<T> slabs;
  __shared__ SharedTile<T> weights;
  const LinearCudaShape& shape = args.shape;
  const TilePlace at(shape);
  const int64_t row = at.rows.row;
  const Panel<T> v = at.rows.Values(static_cast<const T*>(args.v), at.t, at.count);
  const float* const gradient = at.State(args.gradients);
  float d[4][4] = {};
  TileProduct(d, v, StateByFeatures(shape, gradient, at.column), slabs);
  ForTile(at.count, shape.features - at.column, [&](int n, int e, int key, int l) {
    const float weight =
        args.levels.weight == nullptr ? 1.0F : args.levels.weight[row + at.t + key];
    d[n][e] = weight * (d[n][e] + SumsOf(shape, gradient)[at.column + l]);
  });
  for (int first = at.t; shape.causal && first < at.end; first += kTile) {
    const int count = min(kTile, shape.tokens - first);
    float a[4][4] = {};
    TileProduct(a, v, at.rows.Values(static_cast<const T*>(args.d_o), first, count), slabs);
    __syncthreads();
    ForTile(kTile, kTile, [&](int n, int e, int key, int query) {
      const bool seen = key < at.count && query < count && at.t + key <= first + query;
      weights.Set(key, query,
                  seen ? PairSlope(args, row, first + query, at.t + key, a[n][e]) : 0.0F);
    });
    TileProduct(d, weights, Transposed(at.rows.Features(args.q, first, count), at.column), slabs);
  }
  StoreFeatures(at, d, d_f);
}

// dV = A^T N + K' dR.
template <typename T>
__global__ void __launch_bounds__(kTileThreads) ValueGradients(LinearGradientsArgs args, T* d_v) {
  __shared__ Slabs<T> slabs;
  __shared__ SharedTile<T> weights;
  const LinearCudaShape& shape = args.shape;
  const TilePlace at(shape);
  const int64_t row = at.rows.row;
  const Panel<float> k = at.rows.Features(args.k, at.t, at.count);
  float d[4][4] = {};
  TileProduct(d, k, StateByValues(shape, at.State(args.gradients), at.column), slabs);
  ForTile(at.count, kTile, [&](int n, int e, int key, int) {
    if (args.levels.weight != nullptr) d[n][e] *= args.levels.weight[row + at.t + key];
  });
  for (int first = at.t; shape.causal && first < at.end; first += kTile) {
    const int count = min(kTile, shape.tokens - first);
    float a[4][4] = {};
    TileProduct(a, k, at.rows.Features(args.q, first, count), slabs);
    __syncthreads();
    ForTile(kTile, kTile, [&](int n, int e, int key, int query) {
      const bool seen = key < at.count && query < count && at.t + key <= first + query;
      weights.Set(key, query,
                  seen ? a[n][e] * args.slopes.inverse[row + first + query] *
                             PairFactor(args.levels, row, first + query, at.t + key)
                       : 0.0F);
    });
    TileProduct(
        d, weights,
        Transposed(at.rows.Values(static_cast<const T*>(args.d_o), first, count), at.column),
        slabs);
  }
  ForTile(at.count, shape.value_dim - at.column, [&](int n, int e, int t, int c) {
    d_v[((at.rows.token + at.t + t) * shape.heads + at.rows.index) * shape.value_dim + at.column +
        c] = FromFloat<T>(d[n][e]);
  });
}

dim3 TileBlocks(const LinearCudaShape& shape, int columns) {
  return {static_cast<unsigned>(CeilDiv(shape.tokens, kTile) * shape.AllHeads()),
          static_cast<unsigned>(CeilDiv(columns, kTile))};
}

}  // namespace

cudaError_t LaunchLinearOutputs(const CudaLaunch& on, const LinearOutputsArgs& args) {
  if (args.shape.tokens == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    Outputs<T><<<TileBlocks(args.shape, args.shape.value_dim), kTileThreads, 0, on.stream>>>(args);
    return cudaGetLastError();
  });
}

cudaError_t LaunchLinearSlopes(const CudaLaunch& on, const LinearCudaShape& shape, const void* o,
                               const void* d_o, const float* denominators, const float* fading,
                               const LinearSlopes& slopes) {
  if (shape.tokens == 0) return cudaSuccess;
  const auto blocks =
      static_cast<unsigned>(CeilDiv(int64_t{shape.batch} * shape.tokens * shape.heads, kWarps));
  return ForComputeType(on, [&]<typename T>() {
    Slopes<T><<<blocks, kWarps * 32, 0, on.stream>>>(
        shape, static_cast<const T*>(o), static_cast<const T*>(d_o), denominators, fading, slopes);
    return cudaGetLastError();
  });
}

cudaError_t LaunchQueryGradients(const CudaLaunch& on, const LinearGradientsArgs& args,
                                 float* d_f) {
  if (args.shape.tokens == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    QueryGradients<T>
        <<<TileBlocks(args.shape, args.shape.features), kTileThreads, 0, on.stream>>>(args, d_f);
    return cudaGetLastError();
  });
}

cudaError_t LaunchKeyGradients(const CudaLaunch& on, const LinearGradientsArgs& args, float* d_f) {
  if (args.shape.tokens == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    KeyGradients<T>
        <<<TileBlocks(args.shape, args.shape.features), kTileThreads, 0, on.stream>>>(args, d_f);
    return cudaGetLastError();
  });
}

cudaError_t LaunchValueGradients(const CudaLaunch& on, const LinearGradientsArgs& args, void* d_v) {
  if (args.shape.tokens == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    ValueGradients<T><<<TileBlocks(args.shape, args.shape.value_dim), kTileThreads, 0, on.stream>>>(
        args, static_cast<T*>(d_v));
    return cudaGetLastError();
  });
}

}  // namespace weft::kernels
