// Adds the pairs that are written out to what their queries have so far.
#include "kernels/attention/scatterbrain/cuda/pair_walk.cuh"
#include "kernels/device/cuda/reduce.cuh"

namespace weft::kernels::scatterbrain_cuda {
namespace {

template <typename T, int kWidth>
struct Shared {
  static constexpr int kStride = tiles::StrideOf<T>(kWidth);
  static constexpr int kFeatureStride = tiles::StrideOf<T>(kFeatures);
  alignas(16) T q[kOwn * kStride];
  alignas(16) T k[kOthers * kStride];
  alignas(16) T v[kOthers * kStride];
  alignas(16) T phi[kOwn * kFeatureStride];
  alignas(16) T psi[kOthers * kFeatureStride];
  SideRows<kOwn> queries;
  SideRows<kOthers> keys;
};

// One query of a lane.
struct RunningRow {
  float before;     // reference of what lies in memory
  float reference;  // of what has been added up here
  float exact = 0.0F;
  float low_rank = 0.0F;
};

// The products a = q . k and x = phi . psi of a lane's pairs of one query become weights, in `a`.
template <int N>
__device__ inline void Weigh(const PairArgs& args, const SideRows<kOwn>& queries,
                             const SideRows<kOthers>& keys, int half, float (&a)[kColumns][4],
                             const float (&x)[kColumns][4], RunningRow& row, float (&o)[N][4]) {
  const Sizes& s = args.sizes;
  const int head = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4 + 8 * half;
  const int query = queries.token[own];
  float largest = row.reference;
  Kind kinds[kColumns][2];
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      kinds[n][c] = KindOf(args, head, query, keys.token[8 * n + lane % 4 * 2 + c]);
      a[n][2 * half + c] *= s.root * s.root;
      if (kinds[n][c].counts && kinds[n][c].exact) largest = fmaxf(largest, a[n][2 * half + c]);
    }
  }
  largest = tiles::RowReduce(largest, MaxOf());
  const float fading = row.reference == -INFINITY ? 0.0F : expf(row.reference - largest);
  row.reference = largest;
  row.exact *= fading;
  row.low_rank *= fading;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    o[n][2 * half] *= fading;
    o[n][2 * half + 1] *= fading;
  }
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      float& weight = a[n][2 * half + c];
      const Kind kind = kinds[n][c];
      if (!kind.counts) {
        weight = 0.0F;
        continue;
      }
      const int other = 8 * n + lane % 4 * 2 + c;
      const float scale = queries.scale[own] + keys.scale[other];
      const float low = scale == -INFINITY ? 0.0F : expf(scale - largest) * x[n][2 * half + c];
      if (!kind.exact) {
        row.low_rank += low;
        weight = low;
        continue;
      }
      const float exact = expf(weight - largest);
      const float kept = DropoutFactor(args.dropout, head, query, keys.token[other]);
      // What is there already: nothing where pairs are filled in, else the low-rank weight.
      const float there = args.set == PairSet::kFilled ? 0.0F : low;
      row.exact += exact;
      row.low_rank -= there;
      weight = kept * exact + (args.drops_corrections ? (1.0F - kept) * low : 0.0F) - there;
    }
  }
}

// Own rows first ... first + 63 of the block.
template <typename T, int kWidth>
__device__ void ForwardRows(const PairArgs& args, const Walk& walk, int first,
                            Shared<T, kWidth>& shared) {
  constexpr int kStride = Shared<T, kWidth>::kStride;
  constexpr int kGroups = kWidth / 8;
  const Sizes& s = args.sizes;
  const int head = walk.head;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int lane_row = warp_row + static_cast<int>(threadIdx.x) % 32 / 4;
  const auto q = HeadRows<T>(args.in.q, s.queries, s, head, s.key_dim);
  const auto k = HeadRows<T>(args.in.k, s.keys, s, head, s.key_dim);
  const auto v = HeadRows<T>(args.in.v, s.keys, s, head, s.value_dim);
  const auto phi = FeatureRows<T>(args.space.phi, s.queries, s, head);
  const auto psi = FeatureRows<T>(args.space.psi, s.keys, s, head);
  __syncthreads();
  NameRows(
      args, head, false, first, [&](int n) { return walk.Own(n); }, nullptr, &shared.queries);
  __syncthreads();
  tiles::LoadRows<kPairThreads>(q, shared.queries.token, kOwn, 0, kWidth, shared.q, kStride);
  RunningRow rows[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = shared.queries.token[lane_row + 8 * half];
    rows[half].before =
        query < 0 ? -INFINITY : args.space.reference[int64_t{head} * s.queries + query];
    rows[half].reference = rows[half].before;
  }
  float sums[kGroups][4] = {};
  for (int other = 0; other < walk.other_count; other += kOthers) {
    __syncthreads();
    NameRows(
        args, head, true, other, [&](int n) { return walk.Other(n); }, nullptr, &shared.keys);
    __syncthreads();
    tiles::LoadRows<kPairThreads>(k, shared.keys.token, kOthers, 0, kWidth, shared.k, kStride);
    tiles::LoadRows<kPairThreads>(v, shared.keys.token, kOthers, 0, kWidth, shared.v, kStride);
    float x[kColumns][4] = {};
    FeatureProducts(s, phi, psi, shared.queries.token, shared.keys.token, shared.phi, shared.psi,
                    x);
    float a[kColumns][4] = {};
    tiles::ProductOfRows(shared.q + warp_row * kStride, kStride, shared.k, kStride, kWidth, a);
    Weigh(args, shared.queries, shared.keys, 0, a, x, rows[0], sums);
    Weigh(args, shared.queries, shared.keys, 1, a, x, rows[1], sums);
    tiles::ProductOfColumns(a, shared.v, kStride, sums);
  }
  float fading[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    RunningRow& row = rows[half];
    fading[half] = row.before == -INFINITY ? 0.0F : expf(row.before - row.reference);
    const float exact = tiles::RowReduce(row.exact, AddOf());
    const float low_rank = tiles::RowReduce(row.low_rank, AddOf());
    const int query = shared.queries.token[lane_row + 8 * half];
    if (threadIdx.x % 4 != 0 || query < 0) continue;
    const int64_t at = int64_t{head} * s.queries + query;
    args.space.reference[at] = row.reference;
    args.space.exact_mass[at] = args.space.exact_mass[at] * fading[half] + exact;
    float& mass =
        args.space.sums[(int64_t{head} * s.query_tiles() * kTile + query) * s.value_columns() +
                        s.value_dim];
    mass = mass * fading[half] + low_rank;
  }
  tiles::ForAccumulators(sums, [&](int row, int column, float value) {
    const int query = shared.queries.token[warp_row + row];
    if (query < 0 || column >= s.value_dim) return;
    float& to =
        args.space
            .sums[(int64_t{head} * s.query_tiles() * kTile + query) * s.value_columns() + column];
    to = to * fading[row / 8] + value;
  });
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kPairThreads) ForwardKernel(PairArgs args) {
  extern __shared__ __align__(16) uint8_t memory[];
  auto& shared = *reinterpret_cast<Shared<T, kWidth>*>(memory);
  const Walk walk(args);
  for (int first = 0; first < walk.own_count; first += kOwn) {
    ForwardRows<T, kWidth>(args, walk, first, shared);
  }
}

}  // namespace

cudaError_t PairsForward(const CudaLaunch& on, const PairArgs& args) {
  const Sizes& s = args.sizes;
  const int blocks = args.set == PairSet::kBuckets ? args.buckets : s.query_tiles();
  if (blocks == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(s.all_heads()));
  return ForComputeType(on, [&]<typename T>() {
    const int width = s.key_dim > s.value_dim ? s.key_dim : s.value_dim;
    return tiles::ForWidth<T>(width, [&]<int kWidth>() {
      constexpr int kBytes = sizeof(Shared<T, kWidth>);
      return LaunchShared(ForwardKernel<T, kWidth>, grid, kPairThreads, kBytes, on.stream, args);
    });
  });
}

}  // namespace weft::kernels::scatterbrain_cuda
