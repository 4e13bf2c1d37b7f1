// The low-rank part that is not written out pair by pair: what lies between its matrix products.
//
// A tile's sums have the scale of one of its tokens as their unit (exponents are differences of
// scales, which grow along a causal sequence): keys that of their tile's last key, queries that of
// their tile's first, so that no factor exceeds one.
#include "kernels/attention/scatterbrain/cuda/scatterbrain_cuda.h"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::scatterbrain_cuda {
namespace {

constexpr int kThreads = 256;
constexpr float kLeastNormaliser = 1e-30F;

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

// A warp a row of [heads, padded].
struct Row {
  __device__ Row(const Sizes& s, int rows, int count_)
      : lane(static_cast<int>(threadIdx.x) % 32), count(count_) {
    const int64_t index = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
    exists = index < int64_t{s.all_heads()} * rows;
    padded = index;
    head = index / rows;
    token = static_cast<int>(index % rows);
    inside = token < count;
    by_head = head * count + token;
    by_token = (head / s.heads * count + token) * s.heads + head % s.heads;
  }
  int lane, count, token;
  bool exists, inside;
  int64_t padded, head, by_head, by_token;
};
unsigned RowBlocks(const Sizes& s, int rows) {
  return static_cast<unsigned>(CeilDiv(int64_t{s.all_heads()} * rows, kThreads / 32));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    WidenKeysKernel(Sizes s, bool scale_values, const T* v, const T* psi, const float* key_scale,
                    float* wide_psi, float* values) {
  const Row row(s, s.key_tiles() * kTile, s.keys);
  if (!row.exists) return;
  const float* const scales = key_scale + row.head * s.keys;
  const int tile = row.token / kTile;
  const float factor = row.inside ? Factor(scales[row.token], LastScale(s, scales, tile)) : 0.0F;
  for (int l = row.lane; l < s.features; l += 32) {
    wide_psi[row.padded * s.features + l] =
        row.inside ? factor * ToFloat(psi[row.by_head * s.features + l]) : 0.0F;
  }
  for (int e = row.lane; e < s.value_columns(); e += 32) {
    float value = 0;
    if (row.inside && e < s.value_dim) value = ToFloat(v[row.by_token * s.value_dim + e]);
    if (row.inside && e == s.value_dim) value = 1;
    values[row.padded * s.value_columns() + e] = scale_values ? factor * value : value;
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    StartQueriesKernel(Sizes s, const uint8_t* complete, const T* phi, const float* key_scale,
                       float* query_scale, float* reference, float* exact_mass, float* wide_phi) {
  const Row row(s, s.query_tiles() * kTile, s.queries);
  if (!row.exists) return;
  const float* const scales = key_scale + row.head * s.keys;
  float factor = 0;
  if (row.inside) {
    const float seen = SeenScale(s, scales, row.token);
    const bool none = complete != nullptr && complete[row.token] != 0;
    const float own = none ? -INFINITY : query_scale[row.by_head];
    const bool blind = own == -INFINITY || seen == -INFINITY;
    if (!blind) factor = Factor(StateScale(s, scales, row.token / kTile), seen);
    __syncwarp();
    if (row.lane == 0) {
      query_scale[row.by_head] = own;
      reference[row.by_head] = blind ? -INFINITY : own + seen;
      exact_mass[row.by_head] = 0;
    }
  }
  for (int l = row.lane; l < s.features; l += 32) {
    wide_phi[row.padded * s.features + l] =
        factor == 0.0F ? 0.0F : factor * ToFloat(phi[row.by_head * s.features + l]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) WidenPhiKernel(Sizes s, const T* phi, float* wide_phi) {
  const Row row(s, s.query_tiles() * kTile, s.queries);
  if (!row.exists) return;
  for (int l = row.lane; l < s.features; l += 32) {
    wide_phi[row.padded * s.features + l] =
        row.inside ? ToFloat(phi[row.by_head * s.features + l]) : 0.0F;
  }
}

// A thread an element of a state: along the tiles.
__global__ void __launch_bounds__(kThreads)
    SumKeyTilesKernel(Sizes s, const float* key_scale, const float* tile_sums, float* states) {
  const int64_t elements = int64_t{s.features} * s.value_columns();
  const int64_t element = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (element >= elements) return;
  const float* const sums = tile_sums + int64_t{blockIdx.y} * s.key_tiles() * elements + element;
  float* const to = states + int64_t{blockIdx.y} * s.query_tiles() * elements + element;
  const float* const scales = key_scale + int64_t{blockIdx.y} * s.keys;
  float sum = 0;
  int done = 0;
  for (int tile = 0; tile < s.query_tiles(); ++tile) {
    for (; done < s.FilledBegin(tile); ++done) {
      if (s.causal && done > 0) {
        sum *= Factor(LastScale(s, scales, done - 1), LastScale(s, scales, done));
      }
      sum += sums[done * elements];
    }
    to[tile * elements] = sum;
  }
  if (s.causal) return;
  sum = 0;
  done = s.key_tiles();
  for (int tile = s.query_tiles() - 1; tile >= 0; --tile) {
    for (; done > s.FilledEnd(tile); --done) sum += sums[(done - 1) * elements];
    to[tile * elements] += sum;
  }
}

// The other way round: for a tile of keys the tiles of queries that do not fill it in.
__global__ void __launch_bounds__(kThreads)
    SumQueryTilesKernel(Sizes s, const float* key_scale, const float* tile_sums, float* states) {
  const int64_t elements = int64_t{s.features} * s.value_columns();
  const int64_t element = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (element >= elements) return;
  const float* const sums = tile_sums + int64_t{blockIdx.y} * s.query_tiles() * elements + element;
  float* const to = states + int64_t{blockIdx.y} * s.key_tiles() * elements + element;
  const float* const scales = key_scale + int64_t{blockIdx.y} * s.keys;
  float sum = 0;
  int done = s.query_tiles();  // queries from this tile on begin behind the keys' tile
  for (int tile = s.key_tiles() - 1; tile >= 0; --tile) {
    const float unit = LastScale(s, scales, tile);
    if (s.causal && tile + 1 < s.key_tiles()) sum *= Factor(unit, LastScale(s, scales, tile + 1));
    for (; done > 0 && s.FilledBegin(done - 1) > tile; --done) {
      const float factor = s.causal ? Factor(unit, FirstScale(s, scales, done - 1)) : 1.0F;
      sum += factor * sums[(done - 1) * elements];
    }
    to[tile * elements] = sum;
  }
  if (s.causal) return;
  sum = 0;
  done = 0;
  for (int tile = 0; tile < s.key_tiles(); ++tile) {
    for (; done < s.query_tiles() && s.FilledEnd(done) <= tile; ++done) {
      sum += sums[done * elements];
    }
    to[tile * elements] += sum;
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    LoadGradientsKernel(Sizes s, const T* o, const T* d_o, const float* share,
                        bool drops_corrections, float* query_scale, float* mean) {
  const Row row(s, s.queries, s.queries);
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
    WidenGradientsKernel(Sizes s, Units units, const T* d_o, const float* log_normaliser,
                         const float* query_scale, const float* key_scale, const float* mean,
                         float* gradients) {
  const Row row(s, s.query_tiles() * kTile, s.queries);
  if (!row.exists) return;
  float factor = 0;
  if (row.inside && query_scale[row.by_head] != -INFINITY) {
    const float* const scales = key_scale + row.head * s.keys;
    const int tile = row.token / kTile;
    const float unit =
        units == Units::kOfState ? StateScale(s, scales, tile) : FirstScale(s, scales, tile);
    const float log_z = log_normaliser[row.by_head];
    // A tile of queries of which the first see nothing has the unit of nothing: so do its sums.
    if (log_z != -INFINITY) factor = Factor(unit, log_z - query_scale[row.by_head]);
  }
  for (int e = row.lane; e < s.value_columns(); e += 32) {
    float value = 0;
    if (row.inside && e < s.value_dim) value = ToFloat(d_o[row.by_token * s.value_dim + e]);
    if (row.inside && e == s.value_dim) value = -mean[row.by_head];
    gradients[row.padded * s.value_columns() + e] = factor * value;
  }
}

// What is left of the low-rank mass when the exact pairs are taken out is positive but for
// rounding.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    FinishKernel(Sizes s, const float* sums, const float* reference, const float* exact_mass, T* o,
                 float* log_normaliser, float* share) {
  const Row row(s, s.query_tiles() * kTile, s.queries);
  if (!row.exists || !row.inside) return;
  const float* const from = sums + row.padded * s.value_columns();
  const bool blind = reference[row.by_head] == -INFINITY;  // no key seen
  const float low_rank = fmaxf(from[s.value_dim], 0.0F);
  const float sum = fmaxf(exact_mass[row.by_head] + low_rank, kLeastNormaliser);
  for (int e = row.lane; e < s.value_dim; e += 32) {
    o[row.by_token * s.value_dim + e] = FromFloat<T>(blind ? 0.0F : from[e] / sum);
  }
  if (row.lane != 0) return;
  share[row.by_head] = blind ? 0.0F : low_rank / sum;
  log_normaliser[row.by_head] = blind ? -INFINITY : reference[row.by_head] + logf(sum);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    WidenProjectionKernel(int64_t count, const T* w, float* wide_w) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) wide_w[i] = ToFloat(w[i]);
}

cudaError_t Done() { return cudaGetLastError(); }

dim3 StateGrid(const Sizes& s) {
  return {static_cast<unsigned>(CeilDiv(int64_t{s.features} * s.value_columns(), kThreads)),
          static_cast<unsigned>(s.all_heads())};
}

}  // namespace

cudaError_t WidenKeys(const CudaLaunch& on, const Sizes& s, const Operands& in, bool scale_values,
                      const Space& space) {
  if (s.keys == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    WidenKeysKernel<T><<<RowBlocks(s, s.key_tiles() * kTile), kThreads, 0, on.stream>>>(
        s, scale_values, static_cast<const T*>(in.v), static_cast<const T*>(space.psi),
        space.key_scale, space.wide_psi, space.values);
    return Done();
  });
}

cudaError_t StartQueries(const CudaLaunch& on, const Sizes& s, const uint8_t* complete,
                         const Space& space) {
  if (s.queries == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    StartQueriesKernel<T><<<RowBlocks(s, s.query_tiles() * kTile), kThreads, 0, on.stream>>>(
        s, complete, static_cast<const T*>(space.phi), space.key_scale, space.query_scale,
        space.reference, space.exact_mass, space.wide_phi);
    return Done();
  });
}

cudaError_t WidenPhi(const CudaLaunch& on, const Sizes& s, const Space& space) {
  if (s.queries == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    WidenPhiKernel<T><<<RowBlocks(s, s.query_tiles() * kTile), kThreads, 0, on.stream>>>(
        s, static_cast<const T*>(space.phi), space.wide_phi);
    return Done();
  });
}

cudaError_t WidenProjection(const CudaLaunch& on, const Sizes& s, const Operands& in,
                            const Space& space) {
  const int64_t count = int64_t{s.feature_rows} * s.key_dim;
  return ForComputeType(on, [&]<typename T>() {
    WidenProjectionKernel<T>
        <<<static_cast<unsigned>(CeilDiv(count, kThreads)), kThreads, 0, on.stream>>>(
            count, static_cast<const T*>(in.w), space.wide_w);
    return Done();
  });
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

cudaError_t WidenGradients(const CudaLaunch& on, const Sizes& s, const Results& results,
                           Units units, const Space& space) {
  if (s.queries == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    WidenGradientsKernel<T><<<RowBlocks(s, s.query_tiles() * kTile), kThreads, 0, on.stream>>>(
        s, units, static_cast<const T*>(results.d_o), results.log_normaliser, space.query_scale,
        space.key_scale, space.mean, space.gradients);
    return Done();
  });
}

cudaError_t Finish(const CudaLaunch& on, const Sizes& s, const Space& space, void* o,
                   float* log_normaliser, float* share) {
  if (s.queries == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    FinishKernel<T><<<RowBlocks(s, s.query_tiles() * kTile), kThreads, 0, on.stream>>>(
        s, space.sums, space.reference, space.exact_mass, static_cast<T*>(o), log_normaliser,
        share);
    return Done();
  });
}

}  // namespace weft::kernels::scatterbrain_cuda
