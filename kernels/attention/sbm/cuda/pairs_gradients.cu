// The gradients along the edges. One pass owns the queries, one the keys, and each computes the
// pairs again: every sum has one owner and one order. A pass makes the gradients of queries, or of
// keys and values, and the first columns of Gamma z, or of Gamma^T y, Gamma being the gradients of
// p on the edges; further columns, if there are more clusters, take further passes.
#include "kernels/attention/sbm/cuda/pair_tiles.cuh"
#include "kernels/device/cuda/reduce.cuh"

namespace weft::kernels::sbm {
namespace {

using tiles::StrideOf;

constexpr int kFirstClusters = 32;

template <typename T, int kWidth, bool kFurther>
struct Shared {
  static constexpr int kStride = StrideOf<T>(kWidth);
  static constexpr int kClusters = kFurther && sizeof(T) == 2 ? kWidth : kFirstClusters;
  static constexpr int kClusterStride = StrideOf<T>(kClusters);
  alignas(16) T own1[kOwn * kStride];                // q or k
  alignas(16) T own2[kOwn * kStride];                // d_o or v
  alignas(16) T other1[kStages][kOthers * kStride];  // k or q
  alignas(16) T other2[kStages][kOthers * kStride];  // v or d_o
  alignas(16) T clusters[kStages][kOthers * kClusterStride];
  OtherRows others[kNames];
  // Of queries that are others.
  float lse[kStages][kOthers];
  float mean[kStages][kOthers];
  int own[kOwn];
};

// Of the queries of a lane's pairs: log2(e) lse, and d_o . o.
template <bool kKeysOwn>
struct Statistics {
  // Own queries: the lane's two.
  __device__ void LoadOwn(const GradientArgs& args, int head, int first_query) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = first_query + 8 * half;
      if (query >= args.pairs.sizes.queries) continue;
      const int64_t at = int64_t{head} * args.pairs.sizes.queries + query;
      own_lse[half] = args.lse[at] * kLog2E;
      own_mean[half] = args.mean[at];
    }
  }
  [[nodiscard]] __device__ float lse(int n, int c) const {
    return kKeysOwn ? lses[Other(n, c)] * kLog2E : own_lse[c / 2];
  }
  [[nodiscard]] __device__ float mean(int n, int c) const {
    return kKeysOwn ? means[Other(n, c)] : own_mean[c / 2];
  }
  __device__ static int Other(int n, int c) {
    return 8 * n + static_cast<int>(threadIdx.x) % 4 * 2 + c % 2;
  }
  float own_lse[2] = {};
  float own_mean[2] = {};
  const float* lses = nullptr;  // of others, in shared memory
  const float* means = nullptr;
};

// What a pair contributes: the gradient of its logit, its weight after dropout and the gradient of
// its p.
struct Pair {
  float slope;
  float weight;
  float gamma;
};
template <typename T>
__device__ inline Pair Contribution(const GradientArgs& args, float copies, float kept,
                                    float product, float slope, float lse, float mean,
                                    float density_part) {
  const float logit = product * args.pairs.scale;
  const float weight = copies * Exp2Of<T>(logit * kLog2E - lse);
  const float h = weight * (kept * slope - mean);
  const float estimate = (args.logit ? h * logit : h) / copies + density_part;
  return {h, weight * kept, copies * fminf(fmaxf(estimate, -args.clip), args.clip)};
}

// The products q . k in `slopes` and d_o . v in `weights` of a lane's pairs become what these
// contribute. own_row: the lane's first. kFactors: edges weigh differently (HasFactors).
template <typename T, bool kFactors, bool kKeysOwn>
__device__ inline void Contribute(const GradientArgs& args, const OtherRows& others, int head,
                                  int own_row, const Statistics<kKeysOwn>& of, float density_part,
                                  float (&slopes)[kColumns][4], float (&weights)[kColumns][4],
                                  float (&gammas)[kColumns][4]) {
  const Links linked(others);
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      float copies = 1.0F;
      float kept = 1.0F;
      if (kFactors && linked(n, c)) {
        const int other_row = others.row[of.Other(n, c)];
        const int query = kKeysOwn ? other_row : own_row + c / 2 * 8;
        const int key = kKeysOwn ? own_row + c / 2 * 8 : other_row;
        copies = CopiesOf(args.pairs, head, query, key);
        kept = KeptOf(args.pairs, head, query, key);
      }
      const Pair pair = Contribution<T>(args, copies, kept, slopes[n][c], weights[n][c],
                                        of.lse(n, c), of.mean(n, c), density_part);
      slopes[n][c] = linked(n, c) ? pair.slope : 0.0F;
      weights[n][c] = linked(n, c) ? pair.weight : 0.0F;
      gammas[n][c] = linked(n, c) ? pair.gamma : 0.0F;
    }
  }
}

// Where a pass reads, and how its stages are filled.
template <typename T, int kWidth, bool kKeysOwn, bool kFurther>
struct Pass {
  using Memory = Shared<T, kWidth, kFurther>;

  __device__ Pass(const GradientArgs& of, Memory& memory)
      : args(of),
        shared(memory),
        head(static_cast<int>(blockIdx.y)),
        own_rows(kKeysOwn ? of.pairs.sizes.keys : of.pairs.sizes.queries),
        other_rows(kKeysOwn ? of.pairs.sizes.queries : of.pairs.sizes.keys),
        first_cluster(kFurther ? kFirstClusters + static_cast<int>(blockIdx.z) * Memory::kClusters
                               : 0),
        own1(HeadRows<T>(kKeysOwn ? of.pairs.k : of.pairs.q, own_rows, of.pairs.sizes, head)),
        own2(HeadRows<T>(kKeysOwn ? of.pairs.v : of.d_o, own_rows, of.pairs.sizes, head)),
        other1(HeadRows<T>(kKeysOwn ? of.pairs.q : of.pairs.k, other_rows, of.pairs.sizes, head)),
        other2(HeadRows<T>(kKeysOwn ? of.d_o : of.pairs.v, other_rows, of.pairs.sizes, head)),
        list(of.pairs.lists, head, other_rows) {
    const int clusters = of.pairs.sizes.clusters;
    memberships = {static_cast<const T*>(of.memberships) + int64_t{head} * other_rows * clusters,
                   clusters, clusters, tiles::InVectors<T>(of.memberships, clusters)};
  }

  __device__ void CopyOwn() const {
    tiles::CopyRows<kOwn, kWidth>(own1, shared.own, 0, shared.own1);
    tiles::CopyRows<kOwn, kWidth>(own2, shared.own, 0, shared.own2);
  }
  __device__ void CopyOthers(int group) const {
    OtherRows& others = shared.others[group % kNames];
    const int stage = group % kStages;
    list.CopyMeets(group, &others);
    tiles::CopyRows<kOthers, kWidth>(other1, others.row, 0, shared.other1[stage]);
    tiles::CopyRows<kOthers, kWidth>(other2, others.row, 0, shared.other2[stage]);
    tiles::CopyRows<kOthers, Memory::kClusters>(memberships, others.row, first_cluster,
                                                shared.clusters[stage]);
    const int n = static_cast<int>(threadIdx.x);
    if (!kKeysOwn || n >= kOthers) return;
    const int64_t at = int64_t{head} * other_rows + others.row[n];
    CopyAsync<4>(&shared.lse[stage][n], args.lse + at, true);
    CopyAsync<4>(&shared.mean[stage][n], args.mean + at, true);
  }

  const GradientArgs& args;
  Memory& shared;
  int head, own_rows, other_rows, first_cluster;
  tiles::Rows<T> own1, own2, other1, other2, memberships;
  OthersList list;
};

// A warp's results.
template <typename T, int kWidth, bool kKeysOwn, bool kFurther>
struct Sums {
  using Memory = Shared<T, kWidth, kFurther>;

  __device__ void Add(const float (&slopes)[kColumns][4], const float (&weights)[kColumns][4],
                      const float (&gammas)[kColumns][4], const Memory& shared, int stage) {
    tiles::ProductOfColumns(gammas, shared.clusters[stage], Memory::kClusterStride, of_clusters);
    if constexpr (!kFurther) {
      tiles::ProductOfColumns(slopes, shared.other1[stage], Memory::kStride, first);
      if constexpr (kKeysOwn) {
        tiles::ProductOfColumns(weights, shared.other2[stage], Memory::kStride, second);
      }
    }
  }
  // d1: of queries or keys; d2: of values, null when queries are own.
  __device__ void Store(const Pass<T, kWidth, kKeysOwn, kFurther>& pass, int row, T* d1,
                        T* d2) const {
    const Sizes& sizes = pass.args.pairs.sizes;
    const float ones[2] = {1.0F, 1.0F};
    tiles::StoreRows(
        of_clusters, ones, row, pass.own_rows,
        pass.args.sums + int64_t{pass.head} * pass.own_rows * sizes.clusters + pass.first_cluster,
        sizes.clusters, min(Memory::kClusters, sizes.clusters - pass.first_cluster));
    if constexpr (!kFurther) {
      const float scales[2] = {pass.args.pairs.scale, pass.args.pairs.scale};
      const auto to1 = HeadRows<T>(d1, pass.own_rows, sizes, pass.head);
      tiles::StoreRows(first, scales, row, pass.own_rows, const_cast<T*>(to1.first), to1.step,
                       sizes.dim);
    }
    if constexpr (!kFurther && kKeysOwn) {
      const auto to2 = HeadRows<T>(d2, pass.own_rows, sizes, pass.head);
      tiles::StoreRows(second, ones, row, pass.own_rows, const_cast<T*>(to2.first), to2.step,
                       sizes.dim);
    }
  }

  float first[kFurther ? 2 : kWidth / 8][4] = {};                // of queries or keys
  float second[kFurther || !kKeysOwn ? 2 : kWidth / 8][4] = {};  // of values
  float of_clusters[Memory::kClusters / 8][4] = {};
};

template <typename T, int kWidth, bool kKeysOwn, bool kFurther>
__global__ void __launch_bounds__(kPairThreads, sizeof(T) == 2 ? 2 : 1)
    GradientKernel(GradientArgs args, T* d1, T* d2) {
  extern __shared__ __align__(16) uint8_t memory[];
  using Memory = Shared<T, kWidth, kFurther>;
  constexpr int kStride = Memory::kStride;
  auto& shared = *reinterpret_cast<Memory*>(memory);
  const Pass<T, kWidth, kKeysOwn, kFurther> pass(args, shared);
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int block_row = static_cast<int>(blockIdx.x) * kOwn + warp_row;
  const int lane_row = block_row + static_cast<int>(threadIdx.x) % 32 / 4;
  const float density_part = args.density_part[pass.head / args.pairs.sizes.heads];
  const T* const own1 = shared.own1 + warp_row * kStride;
  const T* const own2 = shared.own2 + warp_row * kStride;
  NameOwnRows(pass.own_rows, shared.own);
  __syncthreads();
  tiles::LeftRows<T, kKeysOwn ? 16 : kWidth> left1;  // keys: registers are needed for more
  tiles::LeftRows<T, kKeysOwn ? 16 : kWidth> left2;
  Statistics<kKeysOwn> statistics;
  Sums<T, kWidth, kKeysOwn, kFurther> sums;
  tiles::WalkGroups(
      pass.list.groups(), [&](int g) { pass.list.CopyNames(g, &shared.others[g % kNames]); },
      [&] { pass.CopyOwn(); }, [&](int g) { pass.CopyOthers(g); },
      [&] {
        if constexpr (!kKeysOwn) {
          left1.Load(own1, kStride);
          left2.Load(own2, kStride);
          statistics.LoadOwn(args, pass.head, lane_row);
        }
      },
      [&](int g) {
        const int stage = g % kStages;
        float slopes[kColumns][4] = {};
        float weights[kColumns][4] = {};
        float gammas[kColumns][4];
        if constexpr (kKeysOwn) {
          tiles::ProductOfRows(own1, kStride, shared.other1[stage], kStride, kWidth, slopes);
          tiles::ProductOfRows(own2, kStride, shared.other2[stage], kStride, kWidth, weights);
          statistics.lses = shared.lse[stage];
          statistics.means = shared.mean[stage];
        } else {
          tiles::ProductOfRows(left1, shared.other1[stage], kStride, slopes);
          tiles::ProductOfRows(left2, shared.other2[stage], kStride, weights);
        }
        const auto contribute = [&]<bool kFactors>() {
          Contribute<T, kFactors>(args, shared.others[g % kNames], pass.head, lane_row, statistics,
                                  density_part, slopes, weights, gammas);
        };
        if (HasFactors(args.pairs)) {
          contribute.template operator()<true>();
        } else {
          contribute.template operator()<false>();
        }
        sums.Add(slopes, weights, gammas, shared, stage);
      });
  sums.Store(pass, block_row, d1, d2);
}

template <typename T, int kWidth, bool kKeysOwn, bool kFurther>
cudaError_t LaunchPass(const CudaLaunch& on, const GradientArgs& args, int own_rows, int parts,
                       void* d1, void* d2) {
  if (parts <= 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(CeilDiv(own_rows, kOwn)),
                  static_cast<unsigned>(args.pairs.sizes.all_heads()),
                  static_cast<unsigned>(parts));
  constexpr int kBytes = sizeof(Shared<T, kWidth, kFurther>);
  return LaunchShared(GradientKernel<T, kWidth, kKeysOwn, kFurther>, grid, kPairThreads, kBytes,
                      on.stream, args, static_cast<T*>(d1), static_cast<T*>(d2));
}

template <bool kKeysOwn>
cudaError_t Launch(const CudaLaunch& on, const GradientArgs& args, void* d1, void* d2) {
  const Sizes& sizes = args.pairs.sizes;
  const int own_rows = kKeysOwn ? sizes.keys : sizes.queries;
  if (own_rows == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    return tiles::ForWidth<T>(sizes.dim, [&]<int kWidth>() {
      const cudaError_t error =
          LaunchPass<T, kWidth, kKeysOwn, false>(on, args, own_rows, 1, d1, d2);
      if (error != cudaSuccess) return error;
      constexpr int kClusters = Shared<T, kWidth, true>::kClusters;
      const int parts = static_cast<int>(CeilDiv(sizes.clusters - kFirstClusters, kClusters));
      return LaunchPass<T, kWidth, kKeysOwn, true>(on, args, own_rows, parts, d1, d2);
    });
  });
}

// A warp a query; blockIdx.y is a head.
template <typename T>
__global__ void __launch_bounds__(256)
    MeanKernel(Sizes sizes, const T* o, const T* d_o, float* mean) {
  const int query = static_cast<int>(blockIdx.x) * 8 + static_cast<int>(threadIdx.x) / 32;
  if (query >= sizes.queries) return;
  const auto head = static_cast<int>(blockIdx.y);
  const int64_t row =
      (int64_t{head / sizes.heads} * sizes.queries + query) * sizes.heads + head % sizes.heads;
  float sum = 0;
  for (int d = static_cast<int>(threadIdx.x) % 32; d < sizes.dim; d += 32) {
    sum += ToFloat(o[row * sizes.dim + d]) * ToFloat(d_o[row * sizes.dim + d]);
  }
  sum = GroupReduce<32>(sum, AddOf());
  if (threadIdx.x % 32 == 0) mean[int64_t{head} * sizes.queries + query] = sum;
}

__global__ void __launch_bounds__(256)
    RoundKernel(int64_t count, const float* memberships, bf16* rounded) {
  const int64_t i = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i < count) rounded[i] = FromFloat<bf16>(memberships[i]);
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

cudaError_t RoundMemberships(const CudaLaunch& on, int64_t count, const float* memberships,
                             void* rounded) {
  if (count == 0) return cudaSuccess;
  RoundKernel<<<static_cast<unsigned>(CeilDiv(count, 256)), 256, 0, on.stream>>>(
      count, memberships, static_cast<bf16*>(rounded));
  return cudaGetLastError();
}

cudaError_t PrepareGradients(const CudaLaunch& on, const Sizes& sizes, const void* o,
                             const void* d_o, const int32_t* valid, float density_gradient,
                             float* mean, float* density_part) {
  DensityPartKernel<<<sizes.batch, 32, 0, on.stream>>>(sizes, valid, density_gradient,
                                                       density_part);
  if (sizes.queries == 0) return cudaGetLastError();
  const dim3 grid(static_cast<unsigned>(CeilDiv(sizes.queries, 8)),
                  static_cast<unsigned>(sizes.all_heads()));
  return ForComputeType(on, [&]<typename T>() {
    MeanKernel<T><<<grid, 256, 0, on.stream>>>(sizes, static_cast<const T*>(o),
                                               static_cast<const T*>(d_o), mean);
    return cudaGetLastError();
  });
}

}  // namespace weft::kernels::sbm
