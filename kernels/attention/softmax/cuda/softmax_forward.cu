// softmax_cuda.h, forward: a block has some queries of one head, the keys that they see pass by.
#include "kernels/attention/softmax/cuda/softmax_tiles.cuh"
#include "kernels/device/cuda/launch_shared.cuh"
#include "kernels/device/cuda/reduce.cuh"

namespace weft::kernels {
namespace {

using namespace softmax_tiles;  // NOLINT(google-build-using-namespace)

constexpr float kNothing = -INFINITY;

// Of the two rows of a lane, r = 0 and 1: accumulators [n][2 r] and [n][2 r + 1].
struct RowState {
  float largest[2] = {kNothing, kNothing};  // of logits times log2(e)
  float sum[2] = {0, 0};                    // of this lane's exponentials
};

// Logits of 16 queries with a tile, scaled; -infinity where unseen.
template <int N>
__device__ inline void MaskLogits(const SoftmaxCudaProblem& p, int query, int key,
                                  const int32_t* hidden, float (&x)[N][4]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const Range seen = VisibleKeys(p, query + 8 * r);
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int j = 8 * n + c + static_cast<int>(threadIdx.x) % 4 * 2;
        const bool sees =
            key + j >= seen.begin && key + j < seen.end && (p.valid == nullptr || hidden[j] == 0);
        if (!sees) x[n][2 * r + c] = kNothing;
      }
    }
  }
}

// x, logits without their scale, become exponentials over the running maximum; o fades with it.
template <int N, int M>
__device__ inline void Exponentiate(float scale, float (&x)[N][4], RowState& state,
                                    float (&o)[M][4]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = kNothing;
#pragma unroll
    for (int n = 0; n < N; ++n) largest = fmaxf(largest, fmaxf(x[n][2 * r], x[n][2 * r + 1]));
    largest = fmaxf(state.largest[r], tiles::RowReduce(largest, MaxOf()) * scale);
    const float shift = largest == kNothing ? 0.0F : largest;
    const float fade = exp2f(state.largest[r] - shift);
    state.largest[r] = largest;
    state.sum[r] *= fade;
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        x[n][2 * r + c] = exp2f(fmaf(x[n][2 * r + c], scale, -shift));
        state.sum[r] += x[n][2 * r + c];
      }
    }
#pragma unroll
    for (int m = 0; m < M; ++m) {
      o[m][2 * r] *= fade;
      o[m][2 * r + 1] *= fade;
    }
  }
}

template <int N>
__device__ inline void DropWeights(const DropoutPlace& place, int head, int query, int key,
                                   float (&x)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float2 kept = DropoutOfKeys(place, head, query + 8 * r,
                                        key + 8 * n + static_cast<int>(threadIdx.x) % 4 * 2);
      x[n][2 * r] *= kept.x;
      x[n][2 * r + 1] *= kept.y;
    }
  }
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(ForwardTiles<T, kWidth>::kRows * 2)
    ForwardKernel(SoftmaxCudaProblem p, void* o, float* lse) {
  using Tiles = ForwardTiles<T, kWidth>;
  constexpr int kThreads = Tiles::kRows * 2;
  constexpr int kStride = tiles::StrideOf<T>(kWidth);
  extern __shared__ uint4 memory[];
  T* const q_rows = reinterpret_cast<T*>(memory);
  T* const k_rows = q_rows + Tiles::kRows * kStride;
  T* const v_rows = k_rows + Tiles::kKeys * kStride;
  auto* const hidden = reinterpret_cast<int32_t*>(v_rows + Tiles::kKeys * kStride);

  // The blocks with most keys first.
  const int all_heads = p.batch * p.heads;
  const int batch = static_cast<int>(blockIdx.x) % all_heads / p.heads;
  const int head = static_cast<int>(blockIdx.x) % p.heads;
  const int kv_head = head / (p.heads / p.kv_heads);
  const int first_query =
      static_cast<int>(gridDim.x / all_heads - 1 - blockIdx.x / all_heads) * Tiles::kRows;
  const int last_query = min(first_query + Tiles::kRows, p.queries);
  const Range keys = KeysOfQueries(p, first_query, last_query, Tiles::kKeys);
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int query = first_query + warp_row + static_cast<int>(threadIdx.x) % 32 / 4;
  const float scale = p.scale * kLog2E;

  const auto copy = [&](const void* tensor, int first, T* to) {
    CopyRows<Tiles::kKeys, kWidth, kThreads>(tensor, p.keys, p.kv_heads, batch, kv_head, p.head_dim,
                                             p.vectors, first, to);
  };
  CopyRows<Tiles::kRows, kWidth, kThreads>(p.q, p.queries, p.heads, batch, head, p.head_dim,
                                           p.vectors, first_query, q_rows);
  float sums[kWidth / 8][4] = {};
  RowState state;
  if (keys.begin < keys.end) copy(p.k, keys.begin, k_rows);
  for (int key = keys.begin; key < keys.end; key += Tiles::kKeys) {
    AwaitCopies();
    __syncthreads();
    copy(p.v, key, v_rows);
    if (p.valid != nullptr && threadIdx.x < Tiles::kKeys) {
      const int j = key + static_cast<int>(threadIdx.x);
      hidden[threadIdx.x] = j < p.keys && p.valid[int64_t{batch} * p.keys + j] != 0 ? 0 : 1;
    }
    float x[Tiles::kKeys / 8][4] = {};
    tiles::ProductOfRows(q_rows + warp_row * kStride, kStride, k_rows, kStride, kWidth, x);
    AwaitCopies();
    __syncthreads();
    if (key + Tiles::kKeys < keys.end) copy(p.k, key + Tiles::kKeys, k_rows);
    if (!AllVisible(p, first_query, first_query + Tiles::kRows, key, key + Tiles::kKeys)) {
      MaskLogits(p, query, key, hidden, x);
    }
    Exponentiate(scale, x, state, sums);
    if (p.dropout.on) DropWeights(p.dropout, batch * p.heads + head, query, key, x);
    tiles::ProductOfColumns(x, v_rows, kStride, sums);
  }

  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float sum = tiles::RowReduce(state.sum[r], AddOf());
    inverse[r] = sum > 0 ? 1 / sum : 0.0F;
    if (threadIdx.x % 4 == 0 && query + 8 * r < p.queries) {
      lse[(int64_t{batch} * p.heads + head) * p.queries + query + 8 * r] =
          sum > 0 ? (state.largest[r] + log2f(sum)) * kLn2 : kNothing;
    }
  }
  StoreRows<kWidth / 8, T>(sums, inverse[0], inverse[1], o, p.queries, p.heads, batch, head,
                           p.head_dim, first_query + warp_row, 0);
}

}  // namespace

cudaError_t LaunchSoftmaxForward(const CudaLaunch& on, const SoftmaxCudaProblem& p, void* o,
                                 float* lse) {
  return ForTypeAndWidth(on, p.head_dim, [&]<typename T, int kWidth>() {
    using Tiles = ForwardTiles<T, kWidth>;
    constexpr int kBytes = (Tiles::kRows + 2 * Tiles::kKeys) * tiles::StrideOf<T>(kWidth) *
                               static_cast<int>(sizeof(T)) +
                           Tiles::kKeys * 4;
    const int64_t blocks = CeilDiv(p.queries, Tiles::kRows) * p.batch * p.heads;
    return LaunchShared(ForwardKernel<T, kWidth>, static_cast<unsigned>(blocks), Tiles::kRows * 2,
                        kBytes, on.stream, p, o, lse);
  });
}

}  // namespace weft::kernels
