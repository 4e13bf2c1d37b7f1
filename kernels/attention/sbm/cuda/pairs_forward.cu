// Attention along the edges, with one running maximum and sum a query.
#include "kernels/attention/sbm/cuda/pair_tiles.cuh"
#include "kernels/device/cuda/reduce.cuh"

namespace weft::kernels::sbm {
namespace {

using tiles::StrideOf;

template <typename T, int kWidth>
struct Shared {
  static constexpr int kStride = StrideOf<T>(kWidth);
  alignas(16) T q[kOwn * kStride];
  alignas(16) T k[kStages][kOthers * kStride];
  alignas(16) T v[kStages][kOthers * kStride];
  OtherRows others[kNames];
  int own[kOwn];
};

struct RunningRow {
  float maximum = -INFINITY;  // of scale log2(e) q . k
  float sum = 0.0F;           // of this lane's pairs
};

// The products q . k of a lane's pairs of one query become weights exp(logit - maximum), the
// running values are brought to the new maximum.
template <typename T, int N>
__device__ inline void Weigh(float scale, const Links& linked, int half, float (&s)[kColumns][4],
                             RunningRow& row, float (&o)[N][4]) {
  float largest = -INFINITY;
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int c = 2 * half; c < 2 * half + 2; ++c) {
      s[n][c] = linked(n, c) ? s[n][c] * scale : -INFINITY;
      largest = fmaxf(largest, s[n][c]);
    }
  }
  largest = fmaxf(row.maximum, tiles::RowReduce(largest, MaxOf()));
  const float base = largest == -INFINITY ? 0.0F : largest;
  const float fading = Exp2Of<T>(row.maximum - base);
  row.maximum = largest;
  row.sum *= fading;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    o[n][2 * half] *= fading;
    o[n][2 * half + 1] *= fading;
  }
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int c = 2 * half; c < 2 * half + 2; ++c) s[n][c] = Exp2Of<T>(s[n][c] - base);
  }
}

// Weights of edges that count several times, and of what dropout leaves.
__device__ inline void AddFactors(const PairArgs& args, const OtherRows& others,
                                  const Links& linked, int head, int first_query,
                                  float (&s)[kColumns][4], RunningRow (&rows)[2]) {
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      if (!linked(n, c)) continue;
      const int query = first_query + c / 2 * 8;
      const int key = others.row[8 * n + static_cast<int>(threadIdx.x) % 4 * 2 + c % 2];
      s[n][c] *= CopiesOf(args, head, query, key);
      rows[c / 2].sum += s[n][c];
      s[n][c] *= KeptOf(args, head, query, key);
    }
  }
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kPairThreads, sizeof(T) == 2 ? 3 : 1)
    ForwardKernel(PairArgs args, T* o, float* lse) {
  extern __shared__ __align__(16) uint8_t memory[];
  auto& shared = *reinterpret_cast<Shared<T, kWidth>*>(memory);
  constexpr int kStride = Shared<T, kWidth>::kStride;
  constexpr int kGroups = kWidth / 8;
  const Sizes& sizes = args.sizes;
  const int head = static_cast<int>(blockIdx.y);
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int lane_row = warp_row + static_cast<int>(threadIdx.x) % 32 / 4;
  const int first_query = static_cast<int>(blockIdx.x) * kOwn + lane_row;
  const auto q = HeadRows<T>(args.q, sizes.queries, sizes, head);
  const auto k = HeadRows<T>(args.k, sizes.keys, sizes, head);
  const auto v = HeadRows<T>(args.v, sizes.keys, sizes, head);
  const OthersList keys(args.lists, head, sizes.keys);
  NameOwnRows(sizes.queries, shared.own);
  __syncthreads();
  tiles::LeftRows<T, kWidth> queries;
  float sums[kGroups][4] = {};
  RunningRow rows[2];
  tiles::WalkGroups(
      keys.groups(), [&](int g) { keys.CopyNames(g, &shared.others[g % kNames]); },
      [&] { tiles::CopyRows<kOwn, kWidth>(q, shared.own, 0, shared.q); },
      [&](int g) {
        OtherRows& others = shared.others[g % kNames];
        keys.CopyMeets(g, &others);
        tiles::CopyRows<kOthers, kWidth>(k, others.row, 0, shared.k[g % kStages]);
        tiles::CopyRows<kOthers, kWidth>(v, others.row, 0, shared.v[g % kStages]);
      },
      [&] { queries.Load(shared.q + warp_row * kStride, kStride); },
      [&](int g) {
        float s[kColumns][4] = {};
        tiles::ProductOfRows(queries, shared.k[g % kStages], kStride, s);
        const Links linked(shared.others[g % kNames]);
        const float scale = args.scale * kLog2E;
        Weigh<T>(scale, linked, 0, s, rows[0], sums);
        Weigh<T>(scale, linked, 1, s, rows[1], sums);
        if (HasFactors(args)) {
          AddFactors(args, shared.others[g % kNames], linked, head, first_query, s, rows);
        } else {
#pragma unroll
          for (int n = 0; n < kColumns; ++n) {
            rows[0].sum += s[n][0] + s[n][1];
            rows[1].sum += s[n][2] + s[n][3];
          }
        }
        tiles::ProductOfColumns(s, shared.v[g % kStages], kStride, sums);
      });
  float share[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = tiles::RowReduce(rows[half].sum, AddOf());
    share[half] = sum > 0.0F ? 1.0F / sum : 0.0F;
    const int query = first_query + 8 * half;
    if (threadIdx.x % 4 == 0 && query < sizes.queries) {
      lse[int64_t{head} * sizes.queries + query] =
          sum > 0.0F ? rows[half].maximum * kLn2 + logf(sum) : -INFINITY;
    }
  }
  const auto to = HeadRows<T>(o, sizes.queries, sizes, head);
  tiles::StoreRows(sums, share, static_cast<int>(blockIdx.x) * kOwn + warp_row, sizes.queries,
                   const_cast<T*>(to.first), to.step, sizes.dim);
}

}  // namespace

cudaError_t Forward(const CudaLaunch& on, const PairArgs& args, void* o, float* lse) {
  const dim3 grid(static_cast<unsigned>(CeilDiv(args.sizes.queries, kOwn)),
                  static_cast<unsigned>(args.sizes.all_heads()));
  if (grid.x == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    return tiles::ForWidth<T>(args.sizes.dim, [&]<int kWidth>() {
      constexpr int kBytes = sizeof(Shared<T, kWidth>);
      return LaunchShared(ForwardKernel<T, kWidth>, grid, kPairThreads, kBytes, on.stream, args,
                          static_cast<T*>(o), lse);
    });
  });
}

}  // namespace weft::kernels::sbm
