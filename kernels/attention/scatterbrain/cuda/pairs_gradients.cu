// Adds the gradients by the pairs that are written out. One pass owns the queries, one the keys,
// and each computes the pairs again: every sum has one owner and one order. Each has two kernels:
// one for the gradients of queries, or of keys and values; one for those of features, whose blocks
// take 64 features each.
#include <algorithm>

#include "kernels/attention/scatterbrain/cuda/pair_walk.cuh"

namespace weft::kernels::scatterbrain_cuda {
namespace {

// The operands of a pass, and what belongs to its rows.
template <typename T, bool kKeysOwn>
struct Pass {
  __device__ Pass(const PairArgs& args, const Results& results, int head)
      : q(HeadRows<T>(args.in.q, args.sizes.queries, args.sizes, head, args.sizes.key_dim)),
        k(HeadRows<T>(args.in.k, args.sizes.keys, args.sizes, head, args.sizes.key_dim)),
        v(HeadRows<T>(args.in.v, args.sizes.keys, args.sizes, head, args.sizes.value_dim)),
        d_o(HeadRows<T>(results.d_o, args.sizes.queries, args.sizes, head, args.sizes.value_dim)),
        own(SideOf(args, &results, head, kKeysOwn)),
        others(SideOf(args, &results, head, !kKeysOwn)) {
    const auto phi = FeatureRows<T>(args.space.phi, args.sizes.queries, args.sizes, head);
    const auto psi = FeatureRows<T>(args.space.psi, args.sizes.keys, args.sizes, head);
    features = {kKeysOwn ? psi : phi, kKeysOwn ? phi : psi};
  }
  tiles::Rows<T> q, k, v, d_o;
  Side own, others;
  FeatureSides<T> features;
};

// Of a lane's pair [n][c]: the logarithm of the low-rank weight's factor, and what its query has.
template <bool kKeysOwn>
struct PairNumbers {
  __device__ PairNumbers(const OwnRows& own, const OtherRows& others, int n, int c)
      : scale(own.scale[c / 2] + others.scale[OtherOf(n, c)]),
        log_z(kKeysOwn ? others.log_z[OtherOf(n, c)] : own.log_z[c / 2]),
        mean(kKeysOwn ? others.mean[OtherOf(n, c)] : own.mean[c / 2]) {}
  // What phi . psi is multiplied by to give the normalised weight.
  template <typename T>
  [[nodiscard]] __device__ float Share() const {
    return scale == -INFINITY ? 0.0F : ExpOf<T>(scale - log_z);
  }
  float scale, log_z, mean;
};

template <bool kKeysOwn>
__device__ inline float Kept(const Walk& walk, const OwnRows& own, const OtherRows& others, int n,
                             int c) {
  const int other = others.token[OtherOf(n, c)];
  const int query = kKeysOwn ? other : own.token[c / 2];
  const int key = kKeysOwn ? own.token[c / 2] : other;
  return DropoutFactor(walk.args.dropout, walk.head, query, key);
}

// ---- Queries, or keys and values

template <typename T, int kWidth>
struct Shared {
  static constexpr int kStride = tiles::StrideOf<T>(kWidth);
  alignas(16) T own1[kOwn * kStride];                // q or k
  alignas(16) T own2[kOwn * kStride];                // d_o or v
  alignas(16) T other1[kStages][kOthers * kStride];  // k or q
  alignas(16) T other2[kStages][kOthers * kStride];  // v or d_o
  OtherRows others[kStages];
  int names[kNames][kOthers];
  int own[kOwn];
  // Of the pass that owns the keys.
  FeaturePlaces<T> features;
  FurtherFeatures<T> further;
};

// a = q . k in `slopes`, d_o . v in `weights` and x = phi . psi become the gradients of logits and
// the weights in the sum of values.
template <typename T, bool kKeysOwn>
__device__ inline void Contribute(const Walk& walk, GroupKinds group, const OwnRows& own,
                                  const OtherRows& others, float (&slopes)[kColumns][4],
                                  float (&weights)[kColumns][4], const float (&x)[kColumns][4]) {
  const PairArgs& args = walk.args;
  const float logit_scale = args.sizes.root * args.sizes.root;
  const Kinds kinds = KindsOf<kKeysOwn>(walk, group, own, others);
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const PairNumbers<kKeysOwn> of(own, others, n, c);
      const bool sees = of.log_z != -INFINITY;
      const bool is_exact = kinds.Exact(n, c) && sees;
      float low = 0.0F;
      if (kKeysOwn && group.low_rank) {
        low = kinds.Counts(n, c) && sees ? of.template Share<T>() * x[n][c] : 0.0F;
      }
      float exact = 0.0F;
      if (group.exact) {
        exact = is_exact ? ExpOf<T>(slopes[n][c] * logit_scale - of.log_z) : 0.0F;
      }
      float kept = 1.0F;
      if (args.dropout.on && is_exact) kept = Kept<kKeysOwn>(walk, own, others, n, c);
      const float slope = weights[n][c];
      slopes[n][c] = exact * (kept * slope - of.mean);
      // The low-rank weight is there already unless pairs are filled in.
      const float there = args.set == PairSet::kFilled ? 0.0F : low;
      const float instead = args.drops_corrections ? (1.0F - kept) * low : 0.0F;
      weights[n][c] = is_exact ? kept * exact + instead - there : low;
    }
  }
}

template <typename T, int kWidth, bool kKeysOwn>
__device__ inline void CopyChannels(const Walk& walk, const Pass<T, kKeysOwn>& pass, int group,
                                    Shared<T, kWidth>& shared) {
  const int* const names = shared.names[group % kNames];
  const int stage = group % kStages;
  shared.others[stage].Copy(walk, pass.others, group, names);
  tiles::CopyRows<kOthers, kWidth>(kKeysOwn ? pass.q : pass.k, names, 0, shared.other1[stage]);
  tiles::CopyRows<kOthers, kWidth>(kKeysOwn ? pass.d_o : pass.v, names, 0, shared.other2[stage]);
  if constexpr (kKeysOwn) pass.features.CopyOthers(names, stage, shared.features);
}

// Own rows first ... first + 63.
template <typename T, int kWidth, bool kKeysOwn>
__device__ inline void ChannelGradients(const Walk& walk, const Results& results, int first,
                                        Shared<T, kWidth>& shared) {
  constexpr int kStride = Shared<T, kWidth>::kStride;
  const PairArgs& args = walk.args;
  const Sizes& s = args.sizes;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const Pass<T, kKeysOwn> pass(args, results, walk.head);
  // Low-rank weights have no gradient by queries and keys but through features.
  const auto matters = [&](int g) { return kKeysOwn || GroupKindsOf<kKeysOwn>(walk, g).exact; };
  const T* const own1 = shared.own1 + warp_row * kStride;
  const T* const own2 = shared.own2 + warp_row * kStride;
  NameOwn(walk, first, shared.own);
  OwnRows own;
  tiles::LeftRows<T, kKeysOwn ? 16 : kWidth> left1;  // keys: registers are needed for more
  tiles::LeftRows<T, kKeysOwn ? 16 : kWidth> left2;
  float sums1[kWidth / 8][4] = {};
  float sums2[kKeysOwn ? kWidth / 8 : 2][4] = {};
  tiles::WalkGroups(
      walk.groups(), [&](int g) { walk.CopyNames(g, shared.names[g % kNames]); },
      [&] {
        tiles::CopyRows<kOwn, kWidth>(kKeysOwn ? pass.k : pass.q, shared.own, 0, shared.own1);
        tiles::CopyRows<kOwn, kWidth>(kKeysOwn ? pass.v : pass.d_o, shared.own, 0, shared.own2);
        if constexpr (kKeysOwn) pass.features.CopyOwn(shared.own, shared.features);
      },
      [&](int g) {
        if (matters(g)) CopyChannels(walk, pass, g, shared);
      },
      [&] {
        own.Load(walk, pass.own, shared.own);
        if constexpr (!kKeysOwn) {
          left1.Load(own1, kStride);
          left2.Load(own2, kStride);
        }
      },
      [&](int g) {
        if (!matters(g)) return;
        const int stage = g % kStages;
        const GroupKinds group = GroupKindsOf<kKeysOwn>(walk, g);
        float slopes[kColumns][4] = {};
        float weights[kColumns][4] = {};
        float x[kColumns][4] = {};
        if constexpr (kKeysOwn) {
          if (group.low_rank) {
            pass.features.Multiply(s.features, shared.own, shared.names[g % kNames], stage,
                                   shared.features, shared.further, x);
          }
          if (group.exact) {
            tiles::ProductOfRows(own1, kStride, shared.other1[stage], kStride, kWidth, slopes);
            tiles::ProductOfRows(own2, kStride, shared.other2[stage], kStride, kWidth, weights);
          }
        } else {
          tiles::ProductOfRows(left1, shared.other1[stage], kStride, slopes);
          tiles::ProductOfRows(left2, shared.other2[stage], kStride, weights);
        }
        Contribute<T, kKeysOwn>(walk, group, own, shared.others[stage], slopes, weights, x);
        if (group.exact) tiles::ProductOfColumns(slopes, shared.other1[stage], kStride, sums1);
        if constexpr (kKeysOwn) {
          tiles::ProductOfColumns(weights, shared.other2[stage], kStride, sums2);
        }
      });
  const int64_t padded = int64_t{walk.head} * (kKeysOwn ? s.key_tiles() : s.query_tiles()) * kTile;
  AddRows(sums1, s.root, shared.own, warp_row,
          (kKeysOwn ? args.space.d_key : args.space.d_query) + padded * s.key_dim, s.key_dim,
          s.key_dim);
  if constexpr (kKeysOwn) {
    AddRows(sums2, 1.0F, shared.own, warp_row, args.space.d_value + padded * s.value_columns(),
            s.value_columns(), s.value_dim);
  }
}

template <typename T, int kWidth, bool kKeysOwn>
__global__ void __launch_bounds__(kPairThreads, sizeof(T) == 2 ? 2 : 1)
    ChannelKernel(PairArgs args, Results results) {
  extern __shared__ __align__(16) uint8_t memory[];
  auto& shared = *reinterpret_cast<Shared<T, kWidth>*>(memory);
  const Walk walk(args);
  for (int first = 0; first < walk.own_count; first += kOwn) {
    ChannelGradients<T, kWidth, kKeysOwn>(walk, results, first, shared);
  }
}

// ---- Features

template <typename T, int kWidth>
struct FeatureShared {
  static constexpr int kStride = tiles::StrideOf<T>(kWidth);
  static constexpr int kFeatureStride = tiles::StrideOf<T>(kFeatures);
  alignas(16) T own[kOwn * kStride];                // d_o or v
  alignas(16) T other[kStages][kOthers * kStride];  // v or d_o
  alignas(16) T features[kStages][kOthers * kFeatureStride];
  OtherRows others[kStages];
  int names[kNames][kOthers];
  int own_names[kOwn];
};

// d_o . v in `slopes` becomes the gradients of phi . psi.
template <typename T, bool kKeysOwn>
__device__ inline void FeatureSlopes(const Walk& walk, GroupKinds group, const OwnRows& own,
                                     const OtherRows& others, float (&slopes)[kColumns][4]) {
  const PairArgs& args = walk.args;
  const Kinds kinds = KindsOf<kKeysOwn>(walk, group, own, others);
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const PairNumbers<kKeysOwn> of(own, others, n, c);
      const bool counts = kinds.Counts(n, c) && of.log_z != -INFINITY;
      const float share = counts ? of.template Share<T>() : 0.0F;
      const float low = share * (slopes[n][c] - of.mean);
      float exact = args.set == PairSet::kFilled ? 0.0F : -low;
      if (args.drops_corrections && counts && kinds.Exact(n, c)) {
        exact += share * (1.0F - Kept<kKeysOwn>(walk, own, others, n, c)) * slopes[n][c];
      }
      slopes[n][c] = kinds.Exact(n, c) ? exact : low;
    }
  }
}

// Of own rows first ... first + 63, features `begin` and on.
template <typename T, int kWidth, bool kKeysOwn>
__device__ inline void FeatureGradients(const Walk& walk, const Results& results, int first,
                                        int begin, FeatureShared<T, kWidth>& shared) {
  constexpr int kStride = FeatureShared<T, kWidth>::kStride;
  const PairArgs& args = walk.args;
  const Sizes& s = args.sizes;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const Pass<T, kKeysOwn> pass(args, results, walk.head);
  const auto matters = [&](int g) { return GroupKindsOf<kKeysOwn>(walk, g).low_rank; };
  NameOwn(walk, first, shared.own_names);
  OwnRows own;
  tiles::LeftRows<T, kWidth> left;
  float sums[kFeatures / 8][4] = {};
  tiles::WalkGroups(
      walk.groups(), [&](int g) { walk.CopyNames(g, shared.names[g % kNames]); },
      [&] {
        tiles::CopyRows<kOwn, kWidth>(kKeysOwn ? pass.v : pass.d_o, shared.own_names, 0,
                                      shared.own);
      },
      [&](int g) {
        if (!matters(g)) return;
        const int* const names = shared.names[g % kNames];
        const int stage = g % kStages;
        shared.others[stage].Copy(walk, pass.others, g, names);
        tiles::CopyRows<kOthers, kWidth>(kKeysOwn ? pass.d_o : pass.v, names, 0,
                                         shared.other[stage]);
        tiles::CopyRows<kOthers, kFeatures>(pass.features.others, names, begin,
                                            shared.features[stage]);
      },
      [&] {
        own.Load(walk, pass.own, shared.own_names);
        left.Load(shared.own + warp_row * kStride, kStride);
      },
      [&](int g) {
        if (!matters(g)) return;
        const int stage = g % kStages;
        float slopes[kColumns][4] = {};
        tiles::ProductOfRows(left, shared.other[stage], kStride, slopes);
        FeatureSlopes<T, kKeysOwn>(walk, GroupKindsOf<kKeysOwn>(walk, g), own, shared.others[stage],
                                   slopes);
        tiles::ProductOfColumns(slopes, shared.features[stage],
                                FeatureShared<T, kWidth>::kFeatureStride, sums);
      });
  const int64_t padded = int64_t{walk.head} * (kKeysOwn ? s.key_tiles() : s.query_tiles()) * kTile;
  AddRows(sums, 1.0F, shared.own_names, warp_row,
          (kKeysOwn ? args.space.d_psi : args.space.d_phi) + padded * s.features + begin,
          s.features, s.features - begin);
}

template <typename T, int kWidth, bool kKeysOwn>
__global__ void __launch_bounds__(kPairThreads, sizeof(T) == 2 ? 3 : 1)
    FeatureKernel(PairArgs args, Results results) {
  extern __shared__ __align__(16) uint8_t memory[];
  auto& shared = *reinterpret_cast<FeatureShared<T, kWidth>*>(memory);
  const Walk walk(args);
  const int begin = static_cast<int>(blockIdx.z) * kFeatures;
  for (int first = 0; first < walk.own_count; first += kOwn) {
    FeatureGradients<T, kWidth, kKeysOwn>(walk, results, first, begin, shared);
  }
}

template <bool kKeysOwn>
cudaError_t Launch(const CudaLaunch& on, const PairArgs& args, const Results& results) {
  const Sizes& s = args.sizes;
  const int tiles_of_own = kKeysOwn ? s.key_tiles() : s.query_tiles();
  const int blocks = args.set == PairSet::kBuckets ? args.buckets : tiles_of_own;
  if (blocks == 0) return cudaSuccess;
  dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(s.all_heads()));
  return ForComputeType(on, [&]<typename T>() {
    return tiles::ForWidth<T>(std::max(s.key_dim, s.value_dim), [&]<int kWidth>() {
      using Channels = Shared<T, kWidth>;
      const int bytes = kKeysOwn ? SharedBytes<Channels, T>(s.features)
                                 : static_cast<int>(offsetof(Channels, features));
      const cudaError_t error = LaunchShared(ChannelKernel<T, kWidth, kKeysOwn>, grid, kPairThreads,
                                             bytes, on.stream, args, results);
      if (error != cudaSuccess) return error;
      grid.z = static_cast<unsigned>(CeilDiv(s.features, kFeatures));
      return LaunchShared(FeatureKernel<T, kWidth, kKeysOwn>, grid, kPairThreads,
                          static_cast<int>(sizeof(FeatureShared<T, kWidth>)), on.stream, args,
                          results);
    });
  });
}

}  // namespace

cudaError_t PairsBackward(const CudaLaunch& on, const PairArgs& args, const Results& results) {
  return args.keys_own ? Launch<true>(on, args, results) : Launch<false>(on, args, results);
}

}  // namespace weft::kernels::scatterbrain_cuda
