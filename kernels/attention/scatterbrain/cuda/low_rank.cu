// The low-rank part that is not written out pair by pair: what lies between its matrix products.
//
// A tile's sums have the scale of one of its tokens as their unit (exponents are differences of
// scales, which grow along a causal sequence): keys that of their tile's last key, queries that of
// their tile's first, so that no factor exceeds one.
#include "kernels/attention/scatterbrain/cuda/normaliser.cuh"
#include "kernels/attention/scatterbrain/cuda/scatterbrain_cuda.h"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::scatterbrain_cuda {
namespace {

constexpr int kThreads = 256;

// exp(a - b), where nothing at all has the scale -infinity.
__device__ inline float Factor(float a, float b) { return a == -INFINITY ? 0.0F : expf(a - b); }

// m of the last key of a tile, of the keys that a query may see, of the first key of a query's
// tile.
__device__ inline float LastScale(const Sizes& s, const float* key_scale, int tile) {
  return key_scale[min(tile * kTile + kTile, s.keys) - 1];
}
__device__ inline float SeenScale(const Sizes& s, const float* key_scale, int query) {
  return s.keys == 0 ? -INFINITY : key_scale[s.causal ? query : s.keys - 1];
}
__device__ inline float FirstScale(const Sizes& s, const float* key_scale, int tile) {
  return s.keys == 0 ? -INFINITY : key_scale[s.causal ? tile * kTile : s.keys - 1];
}
// The unit of the state of a tile of queries.
__device__ inline float StateScale(const Sizes& s, const float* key_scale, int tile) {
  if (!s.causal) return s.keys == 0 ? -INFINITY : key_scale[s.keys - 1];
  const int begin = s.FilledBegin(tile);
  return begin == 0 ? -INFINITY : LastScale(s, key_scale, begin - 1);
}

// A warp a token; blockIdx.y is a head.
struct Row {
  __device__ Row(const Sizes& s, int count)
      : lane(static_cast<int>(threadIdx.x) % 32),
        token(static_cast<int>(blockIdx.x) * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32),
        exists(token < count) {
    const auto head = static_cast<int>(blockIdx.y);
    by_head = int64_t{head} * count + token;
    by_token = (int64_t{head / s.heads} * count + token) * s.heads + head % s.heads;
    padded = int64_t{head} * ((count + kTile - 1) / kTile * kTile) + token;
  }
  int lane, token;
  bool exists;
  int64_t by_head, by_token, padded;
};
dim3 RowBlocks(const Sizes& s, int count) {
  return {static_cast<unsigned>(CeilDiv(count, kThreads / 32)),
          static_cast<unsigned>(s.all_heads())};
}

// Kernels with a thread a token: blockIdx.y is a head.
__device__ inline int TokenOfThread() {
  return static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
}
dim3 TokenBlocks(const Sizes& s, int count) {
  return {static_cast<unsigned>(CeilDiv(count, kThreads)), static_cast<unsigned>(s.all_heads())};
}

__global__ void __launch_bounds__(kThreads)
    ScaleKeysKernel(Sizes s, const float* __restrict__ key_scale, float* __restrict__ key_factors) {
  const int token = TokenOfThread();
  if (token >= s.keys) return;
  const int64_t head = blockIdx.y;
  const float* const scales = key_scale + head * s.keys;
  key_factors[head * s.keys + token] = Factor(scales[token], LastScale(s, scales, token / kTile));
}

__global__ void __launch_bounds__(kThreads)
    StartQueriesKernel(Sizes s, const uint8_t* __restrict__ complete,
                       const float* __restrict__ key_scale, float* __restrict__ query_scale,
                       float* __restrict__ reference, float* __restrict__ exact_mass,
                       float* __restrict__ query_factors) {
  const int token = TokenOfThread();
  if (token >= s.queries) return;
  const int64_t at = int64_t{blockIdx.y} * s.queries + token;
  const float* const scales = key_scale + int64_t{blockIdx.y} * s.keys;
  const float seen = SeenScale(s, scales, token);
  const bool none = complete != nullptr && complete[token] != 0;
  const float own = none ? -INFINITY : query_scale[at];
  const bool blind = own == -INFINITY || seen == -INFINITY;
  query_scale[at] = own;
  reference[at] = blind ? -INFINITY : own + seen;
  exact_mass[at] = 0;
  query_factors[at] = blind ? 0.0F : Factor(StateScale(s, scales, token / kTile), seen);
}

__global__ void __launch_bounds__(kThreads)
    ScaleGradientsKernel(Sizes s, Units units, const float* __restrict__ log_normaliser,
                         const float* __restrict__ query_scale, const float* __restrict__ key_scale,
                         float* __restrict__ query_factors) {
  const int token = TokenOfThread();
  if (token >= s.queries) return;
  const int64_t at = int64_t{blockIdx.y} * s.queries + token;
  const float* const scales = key_scale + int64_t{blockIdx.y} * s.keys;
  const int tile = token / kTile;
  const float log_z = log_normaliser[at];
  const bool none = query_scale[at] == -INFINITY || log_z == -INFINITY;
  const float unit =
      units == Units::kOfState ? StateScale(s, scales, tile) : FirstScale(s, scales, tile);
  // A tile of queries of which the first see nothing has the unit of nothing: so do its sums.
  query_factors[at] = none ? 0.0F : Factor(unit, log_z - query_scale[at]);
}

// Loads the next kAhead of `count` numbers that lie `step` apart; forward, or backward from the
// last.
constexpr int kAhead = 8;
__device__ inline void LoadAhead(const float* from, int64_t step, int first, int count,
                                 float (&values)[kAhead]) {
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int at = first + i;
    values[i] = at >= 0 && at < count ? from[at * step] : 0.0F;
  }
}

// A thread an element of a state: along the tiles.
__global__ void __launch_bounds__(kThreads)
    SumKeyTilesKernel(Sizes s, const float* __restrict__ key_scale,
                      const float* __restrict__ tile_sums, float* __restrict__ states) {
  const int64_t elements = int64_t{s.features} * s.value_columns();
  const int64_t element = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (element >= elements) return;
  const float* const sums = tile_sums + int64_t{blockIdx.y} * s.key_tiles() * elements + element;
  float* const to = states + int64_t{blockIdx.y} * s.query_tiles() * elements + element;
  const float* const scales = key_scale + int64_t{blockIdx.y} * s.keys;
  // A tile's state is there when the tiles before those that it fills in are added.
  float sum = 0;
  int tile = 0;
  float ahead[kAhead];
  for (int first = 0; first < s.key_tiles(); first += kAhead) {
    LoadAhead(sums, elements, first, s.key_tiles(), ahead);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int added = first + i;
      if (added >= s.key_tiles()) break;
      for (; tile < s.query_tiles() && s.FilledBegin(tile) <= added; ++tile) {
        to[tile * elements] = sum;
      }
      if (s.causal && added > 0) {
        sum *= Factor(LastScale(s, scales, added - 1), LastScale(s, scales, added));
      }
      sum += ahead[i];
    }
  }
  for (; tile < s.query_tiles(); ++tile) to[tile * elements] = sum;
  if (s.causal) return;
  sum = 0;
  int done = s.key_tiles();
  for (tile = s.query_tiles() - 1; tile >= 0; --tile) {
    for (; done > s.FilledEnd(tile); --done) sum += sums[(done - 1) * elements];
    to[tile * elements] += sum;
  }
}

// The other way round: for a tile of keys the tiles of queries that do not fill it in.
__global__ void __launch_bounds__(kThreads)
    SumQueryTilesKernel(Sizes s, const float* __restrict__ key_scale,
                        const float* __restrict__ tile_sums, float* __restrict__ states) {
  const int64_t elements = int64_t{s.features} * s.value_columns();
  const int64_t element = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (element >= elements) return;
  const float* const sums = tile_sums + int64_t{blockIdx.y} * s.query_tiles() * elements + element;
  float* const to = states + int64_t{blockIdx.y} * s.key_tiles() * elements + element;
  const float* const scales = key_scale + int64_t{blockIdx.y} * s.keys;
  // A tile's state is there when the tiles of queries that begin behind it are added.
  float sum = 0;
  int tile = s.key_tiles() - 1;
  const auto store = [&] {
    to[tile * elements] = sum;
    --tile;
    if (s.causal && tile >= 0) {
      sum *= Factor(LastScale(s, scales, tile), LastScale(s, scales, tile + 1));
    }
  };
  float ahead[kAhead];
  for (int last = s.query_tiles() - 1; last >= 0 && tile >= 0; last -= kAhead) {
    LoadAhead(sums, elements, last - kAhead + 1, s.query_tiles(), ahead);
#pragma unroll
    for (int i = kAhead - 1; i >= 0; --i) {
      const int added = last - kAhead + 1 + i;
      if (added < 0) break;
      while (tile >= 0 && tile >= s.FilledBegin(added)) store();
      if (tile < 0) break;
      const float factor =
          s.causal ? Factor(LastScale(s, scales, tile), FirstScale(s, scales, added)) : 1.0F;
      sum += factor * ahead[i];
    }
  }
  while (tile >= 0) store();
  if (s.causal) return;
  sum = 0;
  int done = 0;
  for (tile = 0; tile < s.key_tiles(); ++tile) {
    for (; done < s.query_tiles() && s.FilledEnd(done) <= tile; ++done) {
      sum += sums[done * elements];
    }
    to[tile * elements] += sum;
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    LoadGradientsKernel(Sizes s, const T* __restrict__ o, const T* __restrict__ d_o,
                        const float* __restrict__ share, bool drops_corrections,
                        float* __restrict__ query_scale, float* __restrict__ mean) {
  const Row row(s, s.queries);
  if (!row.exists) return;
  float sum = 0;
  for (int e = row.lane; e < s.value_dim; e += 32) {
    const int64_t at = row.by_token * s.value_dim + e;
    sum += ToFloat(o[at]) * ToFloat(d_o[at]);
  }
  sum = GroupReduce<32>(sum, AddOf());
  if (row.lane != 0) return;
  mean[row.by_head] = sum;
  if (share[row.by_head] == 0.0F && !drops_corrections) query_scale[row.by_head] = -INFINITY;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    FinishKernel(Sizes s, const float* __restrict__ sums, const float* __restrict__ reference,
                 const float* __restrict__ exact_mass, T* __restrict__ o,
                 float* __restrict__ log_normaliser, float* __restrict__ share) {
  const Row row(s, s.queries);
  if (!row.exists) return;
  const float* const from = sums + row.padded * s.value_columns();
  const Normaliser of(reference[row.by_head], exact_mass[row.by_head], from[s.value_dim]);
  for (int e = row.lane; e < s.value_dim; e += 32) {
    o[row.by_token * s.value_dim + e] = FromFloat<T>(of.blind() ? 0.0F : from[e] * of.factor());
  }
  if (row.lane != 0) return;
  share[row.by_head] = of.share();
  log_normaliser[row.by_head] = of.logarithm();
}

cudaError_t Done() { return cudaGetLastError(); }

dim3 StateGrid(const Sizes& s) {
  return {static_cast<unsigned>(CeilDiv(int64_t{s.features} * s.value_columns(), kThreads)),
          static_cast<unsigned>(s.all_heads())};
}

}  // namespace

cudaError_t ScaleKeys(const CudaLaunch& on, const Sizes& s, const Space& space) {
  if (s.keys == 0) return cudaSuccess;
  ScaleKeysKernel<<<TokenBlocks(s, s.keys), kThreads, 0, on.stream>>>(s, space.key_scale,
                                                                      space.key_factors);
  return Done();
}

cudaError_t StartQueries(const CudaLaunch& on, const Sizes& s, const uint8_t* complete,
                         const Space& space) {
  if (s.queries == 0) return cudaSuccess;
  StartQueriesKernel<<<TokenBlocks(s, s.queries), kThreads, 0, on.stream>>>(
      s, complete, space.key_scale, space.query_scale, space.reference, space.exact_mass,
      space.query_factors);
  return Done();
}

cudaError_t SumKeyTiles(const CudaLaunch& on, const Sizes& s, const Space& space) {
  if (s.queries == 0) return cudaSuccess;
  SumKeyTilesKernel<<<StateGrid(s), kThreads, 0, on.stream>>>(s, space.key_scale, space.tile_sums,
                                                              space.states);
  return Done();
}

cudaError_t SumQueryTiles(const CudaLaunch& on, const Sizes& s, const Space& space) {
  if (s.keys == 0) return cudaSuccess;
  SumQueryTilesKernel<<<StateGrid(s), kThreads, 0, on.stream>>>(s, space.key_scale, space.tile_sums,
                                                                space.states);
  return Done();
}

cudaError_t LoadGradients(const CudaLaunch& on, const Sizes& s, const Results& results,
                          bool drops_corrections, const Space& space) {
  if (s.queries == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    LoadGradientsKernel<T><<<RowBlocks(s, s.queries), kThreads, 0, on.stream>>>(
        s, static_cast<const T*>(results.o), static_cast<const T*>(results.d_o), results.share,
        drops_corrections, space.query_scale, space.mean);
    return Done();
  });
}

cudaError_t ScaleGradients(const CudaLaunch& on, const Sizes& s, const Results& results,
                           Units units, const Space& space) {
  if (s.queries == 0) return cudaSuccess;
  ScaleGradientsKernel<<<TokenBlocks(s, s.queries), kThreads, 0, on.stream>>>(
      s, units, results.log_normaliser, space.query_scale, space.key_scale, space.query_factors);
  return Done();
}

cudaError_t Finish(const CudaLaunch& on, const Sizes& s, const Space& space, const Outputs& to) {
  if (s.queries == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    FinishKernel<T><<<RowBlocks(s, s.queries), kThreads, 0, on.stream>>>(
        s, space.sums, space.reference, space.exact_mass, static_cast<T*>(to.o), to.log_normaliser,
        to.share);
    return Done();
  });
}

}  // namespace weft::kernels::scatterbrain_cuda
