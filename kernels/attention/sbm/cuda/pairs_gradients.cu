// The gradients along the edges. One pass owns the queries, one the keys, and each computes the
// pairs again: every sum has one owner and one order. Within a pass, part 0 makes the gradients of
// queries, or of keys and values; part n > 0 makes some columns of Gamma z, or of Gamma^T y, Gamma
// being the gradients of p on the edges.
#include "kernels/attention/sbm/cuda/pair_tiles.cuh"
#include "kernels/device/cuda/reduce.cuh"

namespace weft::kernels::sbm {
namespace {

using tiles::StrideOf;

// Of the clusters a part has as many as a padded head width, at most.
template <typename T, int kWidth>
struct Shared {
  static constexpr int kStride = StrideOf<T>(kWidth);
  alignas(16) T own1[kOwn * kStride];       // q or k
  alignas(16) T own2[kOwn * kStride];       // d_o or v
  alignas(16) T other1[kOthers * kStride];  // k or q
  alignas(16) T other2[kOthers * kStride];  // v or d_o
  alignas(16) T clusters[kOthers * kStride];
  OtherRows others;
  int own[kOwn];
  // Of the side that holds the queries: log2(e) lse, and d_o . o.
  float lse[kOwn];
  float mean[kOwn];
};

// A pair's products become what it contributes: the gradient of its logit, its weight after dropout
// and the gradient of its p.
struct Pair {
  float slope;
  float weight;
  float gamma;
};
__device__ inline Pair Contribution(const GradientArgs& args, int head, int query, int key,
                                    float product, float slope, float lse, float mean,
                                    float density_part) {
  const PairArgs& pairs = args.pairs;
  const float copies = CopiesOf(pairs, head, query, key);
  const float logit = product * pairs.scale;
  const float weight = copies * exp2f(logit * kLog2e - lse);
  const int position = query + pairs.sizes.keys - pairs.sizes.queries;
  const float kept = DropoutFactor(pairs.dropout, head, position, key);
  const float h = weight * (kept * slope - mean);
  const float estimate = (args.logit ? h * logit : h) / copies + density_part;
  return {h, weight * kept, copies * fminf(fmaxf(estimate, -args.clip), args.clip)};
}

// Loads lse and mean of the queries that `rows` names.
template <typename S>
__device__ inline void LoadStatistics(const GradientArgs& args, int head, const int* rows,
                                      int count, S& shared) {
  const int n = static_cast<int>(threadIdx.x);
  if (n >= count) return;
  const int64_t at = int64_t{head} * args.pairs.sizes.queries + rows[n];
  shared.lse[n] = rows[n] < 0 ? 0.0F : args.lse[at] * kLog2e;
  shared.mean[n] = rows[n] < 0 ? 0.0F : args.mean[at];
}

template <typename T, int kWidth, int N>
__device__ inline void StoreRows(const float (&sums)[N][4], float factor, int rows, int warp_row,
                                 T* first, int64_t step, int columns) {
  const int block_row = static_cast<int>(blockIdx.x) * kOwn + warp_row;
  tiles::ForAccumulators(sums, [&](int row, int column, float value) {
    if (block_row + row >= rows || column >= columns) return;
    first[(block_row + row) * step + column] = FromFloat<T>(value * factor);
  });
}

// Calls add(logits' gradients, weights, gammas) for each 32 others of the block.
template <typename T, int kWidth, bool kKeysOwn, typename Add>
__device__ inline void WalkPairs(const GradientArgs& args, Shared<T, kWidth>& shared, int part,
                                 const Add& add) {
  constexpr int kStride = Shared<T, kWidth>::kStride;
  const Sizes& sizes = args.pairs.sizes;
  const int head = static_cast<int>(blockIdx.y);
  const int own_rows = kKeysOwn ? sizes.keys : sizes.queries;
  const int other_rows = kKeysOwn ? sizes.queries : sizes.keys;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const auto q = HeadRows<T>(args.pairs.q, sizes.queries, sizes, head);
  const auto d_o = HeadRows<T>(args.d_o, sizes.queries, sizes, head);
  const auto k = HeadRows<T>(args.pairs.k, sizes.keys, sizes, head);
  const auto v = HeadRows<T>(args.pairs.v, sizes.keys, sizes, head);
  const tiles::Rows<float> memberships{
      args.memberships + int64_t{head} * other_rows * sizes.clusters, sizes.clusters,
      sizes.clusters,
      tiles::InVectors<float>(args.memberships, sizes.clusters) && sizes.clusters % 8 == 0};
  const float density_part = args.density_part[head / sizes.heads];

  NameOwnRows(own_rows, shared.own);
  __syncthreads();
  tiles::LoadRows<kPairThreads>(kKeysOwn ? k : q, shared.own, kOwn, 0, kWidth, shared.own1,
                                kStride);
  tiles::LoadRows<kPairThreads>(kKeysOwn ? v : d_o, shared.own, kOwn, 0, kWidth, shared.own2,
                                kStride);
  if (!kKeysOwn) LoadStatistics(args, head, shared.own, kOwn, shared);
  const int count = args.pairs.lists.counts[int64_t{head} * gridDim.x + blockIdx.x];
  for (int first = 0; first < count; first += kOthers) {
    __syncthreads();
    NameOthers(args.pairs.lists, head, other_rows, first, count, &shared.others);
    __syncthreads();
    const int* const others = shared.others.row;
    tiles::LoadRows<kPairThreads>(kKeysOwn ? q : k, others, kOthers, 0, kWidth, shared.other1,
                                  kStride);
    tiles::LoadRows<kPairThreads>(kKeysOwn ? d_o : v, others, kOthers, 0, kWidth, shared.other2,
                                  kStride);
    if (part > 0) {
      tiles::LoadRows<kPairThreads>(memberships, others, kOthers, (part - 1) * kWidth, kWidth,
                                    shared.clusters, kStride);
    }
    if (kKeysOwn) LoadStatistics(args, head, others, kOthers, shared);
    __syncthreads();
    float slopes[kColumns][4] = {};
    float weights[kColumns][4] = {};
    float gammas[kColumns][4];
    tiles::ProductOfRows(shared.own1 + warp_row * kStride, kStride, shared.other1, kStride, kWidth,
                         slopes);
    tiles::ProductOfRows(shared.own2 + warp_row * kStride, kStride, shared.other2, kStride, kWidth,
                         weights);
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int own = warp_row + lane / 4 + c / 2 * 8;
        const int other = 8 * n + lane % 4 * 2 + c % 2;
        Pair pair{0.0F, 0.0F, 0.0F};
        if ((shared.others.meets[other] >> own & 1U) != 0) {
          const int own_row = static_cast<int>(blockIdx.x) * kOwn + own;
          const int query = kKeysOwn ? others[other] : own_row;
          const int key = kKeysOwn ? own_row : others[other];
          const int place = kKeysOwn ? other : own;
          pair = Contribution(args, head, query, key, slopes[n][c], weights[n][c],
                              shared.lse[place], shared.mean[place], density_part);
        }
        slopes[n][c] = pair.slope;
        weights[n][c] = pair.weight;
        gammas[n][c] = pair.gamma;
      }
    }
    add(slopes, weights, gammas);
  }
}

// d1: of queries or keys; d2: of values, null when queries are own.
template <typename T, int kWidth, bool kKeysOwn>
__global__ void __launch_bounds__(kPairThreads) GradientKernel(GradientArgs args, T* d1, T* d2) {
  extern __shared__ __align__(16) uint8_t memory[];
  auto& shared = *reinterpret_cast<Shared<T, kWidth>*>(memory);
  constexpr int kStride = Shared<T, kWidth>::kStride;
  constexpr int kGroups = kWidth / 8;
  const Sizes& sizes = args.pairs.sizes;
  const int head = static_cast<int>(blockIdx.y);
  const int part = static_cast<int>(blockIdx.z);
  const int own_rows = kKeysOwn ? sizes.keys : sizes.queries;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  float sums1[kGroups][4] = {};
  if (part > 0) {
    WalkPairs<T, kWidth, kKeysOwn>(
        args, shared, part,
        [&](const auto& /*slopes*/, const auto& /*weights*/, const auto& gammas) {
          tiles::ProductOfColumns(gammas, shared.clusters, kStride, sums1);
        });
    const int begin = (part - 1) * kWidth;
    float* const to = args.sums + int64_t{head} * own_rows * sizes.clusters + begin;
    StoreRows<float, kWidth>(sums1, 1.0F, own_rows, warp_row, to, sizes.clusters,
                             sizes.clusters - begin);
    return;
  }
  float sums2[kKeysOwn ? kGroups : 2][4] = {};
  WalkPairs<T, kWidth, kKeysOwn>(
      args, shared, part, [&](const auto& slopes, const auto& weights, const auto& /*gammas*/) {
        tiles::ProductOfColumns(slopes, shared.other1, kStride, sums1);
        if constexpr (kKeysOwn) tiles::ProductOfColumns(weights, shared.other2, kStride, sums2);
      });
  const auto to1 = HeadRows<T>(d1, own_rows, sizes, head);
  StoreRows<T, kWidth>(sums1, args.pairs.scale, own_rows, warp_row, const_cast<T*>(to1.first),
                       to1.step, sizes.dim);
  if constexpr (kKeysOwn) {
    const auto to2 = HeadRows<T>(d2, own_rows, sizes, head);
    StoreRows<T, kWidth>(sums2, 1.0F, own_rows, warp_row, const_cast<T*>(to2.first), to2.step,
                         sizes.dim);
  }
}

template <bool kKeysOwn>
cudaError_t Launch(const CudaLaunch& on, const GradientArgs& args, void* d1, void* d2) {
  const Sizes& sizes = args.pairs.sizes;
  const int own_rows = kKeysOwn ? sizes.keys : sizes.queries;
  if (own_rows == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    return tiles::ForWidth<T>(sizes.dim, [&]<int kWidth>() {
      constexpr int kBytes = sizeof(Shared<T, kWidth>);
      const dim3 grid(static_cast<unsigned>(CeilDiv(own_rows, kOwn)),
                      static_cast<unsigned>(sizes.all_heads()),
                      static_cast<unsigned>(1 + CeilDiv(sizes.clusters, kWidth)));
      return LaunchShared(GradientKernel<T, kWidth, kKeysOwn>, grid, kPairThreads, kBytes,
                          on.stream, args, static_cast<T*>(d1), static_cast<T*>(d2));
    });
  });
}

// A warp a row of [B, T, H, D].
template <typename T>
__global__ void __launch_bounds__(256)
    MeanKernel(Sizes sizes, const T* o, const T* d_o, float* mean) {
  const int64_t row = int64_t{blockIdx.x} * 8 + threadIdx.x / 32;
  if (row >= int64_t{sizes.batch} * sizes.queries * sizes.heads) return;
  float sum = 0;
  for (int d = static_cast<int>(threadIdx.x) % 32; d < sizes.dim; d += 32) {
    sum += ToFloat(o[row * sizes.dim + d]) * ToFloat(d_o[row * sizes.dim + d]);
  }
  sum = GroupReduce<32>(sum, AddOf());
  const int64_t head = row % sizes.heads;
  const int64_t token = row / sizes.heads;
  const int64_t sequence = token / sizes.queries;
  if (threadIdx.x % 32 == 0) {
    mean[(sequence * sizes.heads + head) * sizes.queries + token % sizes.queries] = sum;
  }
}

// A warp a sequence: density_gradient over the pairs that could be edges.
__global__ void __launch_bounds__(32)
    DensityPartKernel(Sizes sizes, const int32_t* valid, float density_gradient, float* part) {
  if (valid != nullptr) valid += int64_t{blockIdx.x} * sizes.keys;
  const int lane = static_cast<int>(threadIdx.x);
  int64_t keys = 0;  // valid ones so far
  int64_t queries = 0;
  int64_t pairs = 0;  // of a causal graph; of this lane
  for (int first = 0; first < sizes.keys; first += 32) {
    const int key = first + lane;
    const bool is_valid = key < sizes.keys && (valid == nullptr || valid[key] != 0);
    const bool is_query = is_valid && key >= sizes.keys - sizes.queries;
    const unsigned all = __ballot_sync(0xFFFFFFFF, is_valid);
    if (is_query) pairs += keys + __popc(all & ((2U << lane) - 1));
    keys += __popc(all);
    queries += __popc(__ballot_sync(0xFFFFFFFF, is_query));
  }
  pairs = GroupReduce<32>(pairs, AddOf());
  if (!sizes.causal) pairs = queries * keys;
  if (lane == 0) {
    part[blockIdx.x] = pairs == 0 ? 0.0F : density_gradient / static_cast<float>(pairs);
  }
}

}  // namespace

cudaError_t QueryGradients(const CudaLaunch& on, const GradientArgs& args, void* d_q) {
  return Launch<false>(on, args, d_q, nullptr);
}
cudaError_t KeyGradients(const CudaLaunch& on, const GradientArgs& args, void* d_k, void* d_v) {
  return Launch<true>(on, args, d_k, d_v);
}

cudaError_t PrepareGradients(const CudaLaunch& on, const Sizes& sizes, const void* o,
                             const void* d_o, const int32_t* valid, float density_gradient,
                             float* mean, float* density_part) {
  DensityPartKernel<<<sizes.batch, 32, 0, on.stream>>>(sizes, valid, density_gradient,
                                                       density_part);
  const int64_t rows = int64_t{sizes.batch} * sizes.queries * sizes.heads;
  if (rows == 0) return cudaGetLastError();
  return ForComputeType(on, [&]<typename T>() {
    MeanKernel<T><<<static_cast<unsigned>(CeilDiv(rows, 8)), 256, 0, on.stream>>>(
        sizes, static_cast<const T*>(o), static_cast<const T*>(d_o), mean);
    return cudaGetLastError();
  });
}

}  // namespace weft::kernels::sbm
