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
  alignas(16) T k[kOthers * kStride];
  alignas(16) T v[kOthers * kStride];
  OtherRows others;
  int own[kOwn];
};

// Logits of a lane's pairs become weights exp(logit - maximum), the running values are brought to
// the new maximum.
struct RunningRow {
  float maximum = -INFINITY;  // of scale log2(e) q . k
  float sum = 0.0F;           // of this lane's pairs
};

template <int N>
__device__ inline void Weigh(const PairArgs& args, const OtherRows& others, int head, int query,
                             int half, float (&s)[kColumns][4], RunningRow& row, float (&o)[N][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int bit = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4 + 8 * half;
  float largest = row.maximum;
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      float& x = s[n][2 * half + c];
      const bool linked = (others.meets[8 * n + lane % 4 * 2 + c] >> bit & 1U) != 0;
      x = linked ? x * args.scale * kLog2e : -INFINITY;
      largest = fmaxf(largest, x);
    }
  }
  largest = tiles::RowReduce(largest, MaxOf());
  const float base = largest == -INFINITY ? 0.0F : largest;
  const float fading = exp2f(row.maximum - base);
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
    for (int c = 0; c < 2; ++c) {
      float& x = s[n][2 * half + c];
      if (x == -INFINITY) {
        x = 0.0F;
        continue;
      }
      const int key = others.row[8 * n + lane % 4 * 2 + c];
      x = exp2f(x - base) * CopiesOf(args, head, query, key);
      row.sum += x;
      const int position = query + args.sizes.keys - args.sizes.queries;
      x *= DropoutFactor(args.dropout, head, position, key);
    }
  }
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kPairThreads) ForwardKernel(PairArgs args, T* o, float* lse) {
  extern __shared__ __align__(16) uint8_t memory[];
  auto& shared = *reinterpret_cast<Shared<T, kWidth>*>(memory);
  constexpr int kStride = Shared<T, kWidth>::kStride;
  constexpr int kGroups = kWidth / 8;
  const Sizes& sizes = args.sizes;
  const int head = static_cast<int>(blockIdx.y);
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int lane_row = warp_row + static_cast<int>(threadIdx.x) % 32 / 4;
  const auto q = HeadRows<T>(args.q, sizes.queries, sizes, head);
  const auto k = HeadRows<T>(args.k, sizes.keys, sizes, head);
  const auto v = HeadRows<T>(args.v, sizes.keys, sizes, head);
  NameOwnRows(sizes.queries, shared.own);
  __syncthreads();
  tiles::LoadRows<kPairThreads>(q, shared.own, kOwn, 0, kWidth, shared.q, kStride);
  const int first_query = static_cast<int>(blockIdx.x) * kOwn + lane_row;
  const int count = args.lists.counts[int64_t{head} * gridDim.x + blockIdx.x];
  float sums[kGroups][4] = {};
  RunningRow rows[2];
  for (int first = 0; first < count; first += kOthers) {
    __syncthreads();
    NameOthers(args.lists, head, sizes.keys, first, count, &shared.others);
    __syncthreads();
    tiles::LoadRows<kPairThreads>(k, shared.others.row, kOthers, 0, kWidth, shared.k, kStride);
    tiles::LoadRows<kPairThreads>(v, shared.others.row, kOthers, 0, kWidth, shared.v, kStride);
    __syncthreads();
    float s[kColumns][4] = {};
    tiles::ProductOfRows(shared.q + warp_row * kStride, kStride, shared.k, kStride, kWidth, s);
    Weigh(args, shared.others, head, first_query, 0, s, rows[0], sums);
    Weigh(args, shared.others, head, first_query + 8, 1, s, rows[1], sums);
    tiles::ProductOfColumns(s, shared.v, kStride, sums);
  }
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
  const int block_row = static_cast<int>(blockIdx.x) * kOwn + warp_row;
  tiles::ForAccumulators(sums, [&](int row, int column, float value) {
    if (block_row + row >= sizes.queries || column >= sizes.dim) return;
    const_cast<T*>(to.first)[(block_row + row) * to.step + column] =
        FromFloat<T>(value * share[row / 8]);
  });
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
