// softmax_sm90.h, before and after the gradient: what a query has to say to all keys, and d_q from
// its sums. Both move bytes; their blocks come head by head, so that those that run together meet
// whole rows of memory.
#include "kernels/attention/cuda/tiles_sm90.cuh"
#include "kernels/attention/softmax/cuda/softmax_sm90.h"
#include "kernels/attention/softmax/cuda/visible_pairs.cuh"
#include "kernels/device/cuda/hopper.cuh"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::sm90 {
namespace {

using softmax_tiles::kLog2E;

constexpr int kThreads = 256;
constexpr int kGroup = 128;        // threads that have half a tile of dQ
constexpr int kHalf = 8 * kGroup;  // float4 of it
template <int kWidth>
constexpr int kTileQueries = kWidth == 64 ? 128 : 64;

// Which queries of which head a block has.
struct HeadsPart {
  __device__ HeadsPart(const SoftmaxCudaProblem& p, int parts)
      : head(static_cast<int>(blockIdx.x) % p.heads),
        part(static_cast<int>(blockIdx.x) / p.heads % parts),
        batch(static_cast<int>(blockIdx.x) / p.heads / parts) {}
  int head;
  int part;  // of the head's queries
  int batch;
};

template <int kWidth>
struct RowsLayout {
  static constexpr int kLanes = kWidth / kVector<bf16>;  // of a row
  static constexpr int kRows = kThreads / kLanes;        // of a block; a tile has a few times more
  static_assert(kTileQueries<kWidth> % kRows == 0);
};

// Shifts and means.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    RowsKernel(SoftmaxCudaProblem p, SoftmaxBackwardScratch scratch, const bf16* o, const bf16* d_o,
               const float* lse) {
  using R = RowsLayout<kWidth>;
  const int rows = scratch.tiles * kTileQueries<kWidth>;
  const HeadsPart at(p, rows / R::kRows);
  const auto thread = static_cast<int>(threadIdx.x);
  const int query = at.part * R::kRows + thread / R::kLanes;
  const int64_t head = int64_t{at.batch} * p.heads + at.head;  // of [B, H]
  float shift = INFINITY;
  float mean = 0;
  if (query < p.queries) {
    const int64_t row = (int64_t{at.batch} * p.queries + query) * p.heads + at.head;
    const int64_t first = row * kWidth + thread % R::kLanes * kVector<bf16>;
    float a[kVector<bf16>], b[kVector<bf16>];
    Load(o + first, a);
    Load(d_o + first, b);
#pragma unroll
    for (int i = 0; i < kVector<bf16>; ++i) mean += a[i] * b[i];
    const float value = lse[head * p.queries + query];
    if (value != -INFINITY) shift = value * kLog2E;
  }
  mean = GroupReduce<R::kLanes>(mean, AddOf());
  if (thread % R::kLanes == 0) {
    scratch.shifts[head * rows + query] = shift;
    scratch.means[head * rows + query] = mean;
  }
}

// d_q from its sums: a block for each tile of a head. The halves are 64 x 64 of the tile; they pass
// through shared memory, so that whole lines are written.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    QueriesKernel(SoftmaxCudaProblem p, SoftmaxBackwardScratch scratch, bf16* d_q) {
  constexpr int kStride = 64 + 8;  // a row's place, so that eight rows meet all banks
  __shared__ __align__(16) bf16 rows[2][64 * kStride];
  const Place in;
  const HeadsPart at(p, scratch.tiles);
  const int half = static_cast<int>(threadIdx.x) / kGroup;
  const int thread = static_cast<int>(threadIdx.x) % kGroup;
  const int64_t tile = (int64_t{at.batch} * p.heads + at.head) * scratch.tiles + at.part;
  const float4* const from = scratch.d_q + (tile * 2 + half) * kHalf + thread;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float4 d = from[i * kGroup];
    bf16* const to = rows[half] + in.row * kStride + 8 * i + in.column;
    *reinterpret_cast<uint32_t*>(to) = hopper::PackPair(d.x * p.scale, d.y * p.scale);
    *reinterpret_cast<uint32_t*>(to + 8 * kStride) = hopper::PackPair(d.z * p.scale, d.w * p.scale);
  }
  __syncthreads();
  const int first = at.part * kTileQueries<kWidth> + (kWidth == 64 ? 64 * half : 0) + thread / 8;
  const int column = (kWidth == 64 ? 0 : 64 * half) + thread % 8 * 8;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int query = first + 16 * i;
    if (query >= p.queries) break;
    const int64_t row = (int64_t{at.batch} * p.queries + query) * p.heads + at.head;
    *reinterpret_cast<uint4*>(d_q + row * kWidth + column) = *reinterpret_cast<const uint4*>(
        rows[half] + (thread / 8 + 16 * i) * kStride + thread % 8 * 8);
  }
}

template <typename F>
cudaError_t ForWidth(const SoftmaxCudaProblem& p, const F& f) {
  if (p.head_dim == 64) {
    f.template operator()<64>();
  } else {
    f.template operator()<128>();
  }
  return cudaGetLastError();
}

int64_t TilesOf(const SoftmaxCudaProblem& p, const SoftmaxBackwardScratch& scratch) {
  return int64_t{p.batch} * p.heads * scratch.tiles;
}

}  // namespace

cudaError_t LaunchSoftmaxRows(const SoftmaxCudaProblem& p, const SoftmaxCudaGradients& g,
                              const SoftmaxBackwardScratch& scratch, cudaStream_t stream) {
  return ForWidth(p, [&]<int kWidth>() {
    const int64_t blocks = TilesOf(p, scratch) * (kTileQueries<kWidth> / RowsLayout<kWidth>::kRows);
    RowsKernel<kWidth><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
        p, scratch, static_cast<const bf16*>(g.o), static_cast<const bf16*>(g.d_o), g.lse);
  });
}

cudaError_t LaunchSoftmaxQueries(const SoftmaxCudaProblem& p, const SoftmaxBackwardScratch& scratch,
                                 void* d_q, cudaStream_t stream) {
  return ForWidth(p, [&]<int kWidth>() {
    QueriesKernel<kWidth><<<static_cast<unsigned>(TilesOf(p, scratch)), kThreads, 0, stream>>>(
        p, scratch, static_cast<bf16*>(d_q));
  });
}

}  // namespace weft::kernels::sm90
