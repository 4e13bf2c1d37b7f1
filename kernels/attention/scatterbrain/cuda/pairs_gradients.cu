// Adds the gradients by the pairs that are written out. One pass owns the queries, one the keys,
// and each computes the pairs again: every sum has one owner and one order. Within a pass, part 0
// makes the gradients of queries, or of keys and values; part n > 0 those of some features.
#include <algorithm>

#include "kernels/attention/scatterbrain/cuda/pair_walk.cuh"

namespace weft::kernels::scatterbrain_cuda {
namespace {

template <typename T, int kWidth>
struct Shared {
  static constexpr int kStride = tiles::StrideOf<T>(kWidth);
  static constexpr int kFeatureStride = tiles::StrideOf<T>(kFeatures);
  alignas(16) T own1[kOwn * kStride];       // q or k
  alignas(16) T own2[kOwn * kStride];       // d_o or v
  alignas(16) T other1[kOthers * kStride];  // k or q
  alignas(16) T other2[kOthers * kStride];  // v or d_o
  alignas(16) T own_features[kOwn * kFeatureStride];
  alignas(16) T other_features[kOthers * kFeatureStride];
  SideRows<kOwn> own;
  SideRows<kOthers> other;
};

// What a pair adds to: the gradient of its logit, its weight in the sum of values, the gradient of
// phi . psi.
struct Pair {
  float slope;
  float weight;
  float feature;
};

// a = q . k, slope = d_o . v, x = phi . psi.
__device__ inline Pair Contribution(const PairArgs& args, Kind kind, int head, int query, int key,
                                    float a, float slope, float x, float scale, float log_z,
                                    float mean) {
  if (!kind.counts || log_z == -INFINITY) return {0.0F, 0.0F, 0.0F};
  const float share = scale == -INFINITY ? 0.0F : expf(scale - log_z);
  const float low = share * x;
  if (!kind.exact) return {0.0F, low, share * (slope - mean)};
  const float exact = expf(a * args.sizes.root * args.sizes.root - log_z);
  const float kept = DropoutFactor(args.dropout, head, query, key);
  Pair pair{exact * (kept * slope - mean), kept * exact, 0.0F};
  if (args.drops_corrections) {
    pair.weight += (1.0F - kept) * low;
    pair.feature += share * (1.0F - kept) * slope;
  }
  if (args.set != PairSet::kFilled) {  // the low-rank weight is there already
    pair.weight -= low;
    pair.feature -= share * (slope - mean);
  }
  return pair;
}

template <int N>
__device__ inline void AddRows(const float (&sums)[N][4], float factor, const int* tokens,
                               int warp_row, float* first, int step, int columns) {
  tiles::ForAccumulators(sums, [&](int row, int column, float value) {
    const int token = tokens[warp_row + row];
    if (token >= 0 && column < columns) first[int64_t{token} * step + column] += factor * value;
  });
}

// Calls add(slopes, weights, features) for each 32 others that own rows first ... first + 63 meet.
template <typename T, int kWidth, bool kKeysOwn, typename Add>
__device__ inline void WalkPairs(const PairArgs& args, const Results& results, const Walk& walk,
                                 int first, Shared<T, kWidth>& shared, const Add& add) {
  constexpr int kStride = Shared<T, kWidth>::kStride;
  const Sizes& s = args.sizes;
  const int head = walk.head;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const auto q = HeadRows<T>(args.in.q, s.queries, s, head, s.key_dim);
  const auto d_o = HeadRows<T>(results.d_o, s.queries, s, head, s.value_dim);
  const auto k = HeadRows<T>(args.in.k, s.keys, s, head, s.key_dim);
  const auto v = HeadRows<T>(args.in.v, s.keys, s, head, s.value_dim);
  const auto phi = FeatureRows<T>(args.space.phi, s.queries, s, head);
  const auto psi = FeatureRows<T>(args.space.psi, s.keys, s, head);
  __syncthreads();
  NameRows(
      args, head, kKeysOwn, first, [&](int n) { return walk.Own(n); }, &results, &shared.own);
  __syncthreads();
  tiles::LoadRows<kPairThreads>(kKeysOwn ? k : q, shared.own.token, kOwn, 0, kWidth, shared.own1,
                                kStride);
  tiles::LoadRows<kPairThreads>(kKeysOwn ? v : d_o, shared.own.token, kOwn, 0, kWidth, shared.own2,
                                kStride);
  for (int from = 0; from < walk.other_count; from += kOthers) {
    __syncthreads();
    NameRows(
        args, head, !kKeysOwn, from, [&](int n) { return walk.Other(n); }, &results, &shared.other);
    __syncthreads();
    const int* const others = shared.other.token;
    tiles::LoadRows<kPairThreads>(kKeysOwn ? q : k, others, kOthers, 0, kWidth, shared.other1,
                                  kStride);
    tiles::LoadRows<kPairThreads>(kKeysOwn ? d_o : v, others, kOthers, 0, kWidth, shared.other2,
                                  kStride);
    float features[kColumns][4] = {};
    FeatureProducts(s, kKeysOwn ? psi : phi, kKeysOwn ? phi : psi, shared.own.token, others,
                    shared.own_features, shared.other_features, features);
    float slopes[kColumns][4] = {};
    float weights[kColumns][4] = {};
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
        const int query = kKeysOwn ? others[other] : shared.own.token[own];
        const int key = kKeysOwn ? shared.own.token[own] : others[other];
        const float log_z = kKeysOwn ? shared.other.log_z[other] : shared.own.log_z[own];
        const float mean = kKeysOwn ? shared.other.mean[other] : shared.own.mean[own];
        const Pair pair = Contribution(
            args, KindOf(args, head, query, key), head, query, key, slopes[n][c], weights[n][c],
            features[n][c], shared.own.scale[own] + shared.other.scale[other], log_z, mean);
        slopes[n][c] = pair.slope;
        weights[n][c] = pair.weight;
        features[n][c] = pair.feature;
      }
    }
    add(slopes, weights, features);
  }
}

// Part 0 of own rows first ... first + 63.
template <typename T, int kWidth, bool kKeysOwn>
__device__ void ChannelGradients(const PairArgs& args, const Results& results, const Walk& walk,
                                 int first, Shared<T, kWidth>& shared) {
  constexpr int kStride = Shared<T, kWidth>::kStride;
  const Sizes& s = args.sizes;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  float sums1[kWidth / 8][4] = {};
  float sums2[kKeysOwn ? kWidth / 8 : 2][4] = {};
  WalkPairs<T, kWidth, kKeysOwn>(
      args, results, walk, first, shared,
      [&](const auto& slopes, const auto& weights, const auto& /*features*/) {
        tiles::ProductOfColumns(slopes, shared.other1, kStride, sums1);
        if constexpr (kKeysOwn) tiles::ProductOfColumns(weights, shared.other2, kStride, sums2);
      });
  const int64_t padded = int64_t{walk.head} * (kKeysOwn ? s.key_tiles() : s.query_tiles()) * kTile;
  AddRows(sums1, s.root, shared.own.token, warp_row,
          (kKeysOwn ? args.space.d_key : args.space.d_query) + padded * s.key_dim, s.key_dim,
          s.key_dim);
  if constexpr (kKeysOwn) {
    AddRows(sums2, 1.0F, shared.own.token, warp_row,
            args.space.d_value + padded * s.value_columns(), s.value_columns(), s.value_dim);
  }
}

// Features kFeatures (part - 1) and on.
template <typename T, int kWidth, bool kKeysOwn>
__device__ void FeatureGradients(const PairArgs& args, const Results& results, const Walk& walk,
                                 int first, int part, Shared<T, kWidth>& shared) {
  constexpr int kStride = Shared<T, kWidth>::kFeatureStride;
  const Sizes& s = args.sizes;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int begin = (part - 1) * kFeatures;
  const auto others = kKeysOwn ? FeatureRows<T>(args.space.phi, s.queries, s, walk.head)
                               : FeatureRows<T>(args.space.psi, s.keys, s, walk.head);
  float sums[kFeatures / 8][4] = {};
  WalkPairs<T, kWidth, kKeysOwn>(
      args, results, walk, first, shared,
      [&](const auto& /*slopes*/, const auto& /*weights*/, const auto& features) {
        if (s.features > kFeatures) {  // the last stretch lies there, not this one
          tiles::LoadRows<kPairThreads>(others, shared.other.token, kOthers, begin, kFeatures,
                                        shared.other_features, kStride);
          __syncthreads();
        }
        tiles::ProductOfColumns(features, shared.other_features, kStride, sums);
      });
  const int64_t padded = int64_t{walk.head} * (kKeysOwn ? s.key_tiles() : s.query_tiles()) * kTile;
  AddRows(sums, 1.0F, shared.own.token, warp_row,
          (kKeysOwn ? args.space.d_psi : args.space.d_phi) + padded * s.features + begin,
          s.features, s.features - begin);
}

template <typename T, int kWidth, bool kKeysOwn>
__global__ void __launch_bounds__(kPairThreads) GradientKernel(PairArgs args, Results results) {
  extern __shared__ __align__(16) uint8_t memory[];
  auto& shared = *reinterpret_cast<Shared<T, kWidth>*>(memory);
  const Walk walk(args);
  const int part = static_cast<int>(blockIdx.z);
  for (int first = 0; first < walk.own_count; first += kOwn) {
    if (part == 0) {
      ChannelGradients<T, kWidth, kKeysOwn>(args, results, walk, first, shared);
    } else {
      FeatureGradients<T, kWidth, kKeysOwn>(args, results, walk, first, part, shared);
    }
  }
}

template <bool kKeysOwn>
cudaError_t Launch(const CudaLaunch& on, const PairArgs& args, const Results& results) {
  const Sizes& s = args.sizes;
  const int tiles_of_own = kKeysOwn ? s.key_tiles() : s.query_tiles();
  const int blocks = args.set == PairSet::kBuckets ? args.buckets : tiles_of_own;
  if (blocks == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(s.all_heads()),
                  static_cast<unsigned>(1 + CeilDiv(s.features, kFeatures)));
  return ForComputeType(on, [&]<typename T>() {
    return tiles::ForWidth<T>(std::max(s.key_dim, s.value_dim), [&]<int kWidth>() {
      constexpr int kBytes = sizeof(Shared<T, kWidth>);
      return LaunchShared(GradientKernel<T, kWidth, kKeysOwn>, grid, kPairThreads, kBytes,
                          on.stream, args, results);
    });
  });
}

}  // namespace

cudaError_t PairsBackward(const CudaLaunch& on, const PairArgs& args, const Results& results) {
  return args.keys_own ? Launch<true>(on, args, results) : Launch<false>(on, args, results);
}

}  // namespace weft::kernels::scatterbrain_cuda
