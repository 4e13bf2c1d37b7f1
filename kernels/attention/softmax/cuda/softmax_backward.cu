// softmax_cuda.h, backward, in three passes that add in one order:
//
//   means    (query, head)        o, d_o -> sum_j p_ij dp_ij
//   keys     (keys, key-value head)  all heads that share them, queries passing by -> d_k, d_v
//   queries  (queries, head)      keys passing by -> d_q
//
// The last two both make p and dp again from q, k, v, d_o and lse: seven products for five, in
// exchange for sums without atomics.
#include "kernels/attention/softmax/cuda/softmax_tiles.cuh"
#include "kernels/device/cuda/launch_shared.cuh"
#include "kernels/device/cuda/reduce.cuh"

namespace weft::kernels {
namespace {

using namespace softmax_tiles;  // NOLINT(google-build-using-namespace)

constexpr int kMeansThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kMeansThreads)
    MeansKernel(SoftmaxCudaProblem p, const void* o, const void* d_o, float* means) {
  const int64_t row = (int64_t{blockIdx.x} * kMeansThreads + threadIdx.x) / 32;  // of [B, T, H]
  if (row >= int64_t{p.batch} * p.queries * p.heads) return;
  const T* const a = static_cast<const T*>(o) + row * p.head_dim;
  const T* const b = static_cast<const T*>(d_o) + row * p.head_dim;
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x) % 32; i < p.head_dim; i += 32) {
    sum = fmaf(ToFloat(a[i]), ToFloat(b[i]), sum);
  }
  sum = GroupReduce<32>(sum, AddOf());
  const int64_t head = row % p.heads;
  const int64_t query = row / p.heads % p.queries;
  const int64_t batch = row / p.heads / p.queries;
  if (threadIdx.x % 32 == 0) means[(batch * p.heads + head) * p.queries + query] = sum;
}

// The logarithm that makes exponentials weights, times log2(e): infinite where no key is seen or
// there is no query, so that weights vanish.
__device__ inline float ShiftOf(const SoftmaxCudaProblem& p, const float* lse, int64_t row,
                                int query) {
  const float value = query < p.queries ? lse[row + query] : -INFINITY;
  return value == -INFINITY ? INFINITY : value * kLog2E;
}

// What a tile of queries is to a block of the pass over keys.
struct QueryTile {
  const float* shifts;  // [tile]
  const float* means;   // [tile]
  int first;
  int head;  // of [B, H]
};

// x: logits of 16 keys (rows) with a tile of queries, become their weights; d: gradients of the
// weights after dropout, become those of the logits; x ends as the weights after dropout.
template <int N>
__device__ inline void SlopesOfKeys(const SoftmaxCudaProblem& p, const QueryTile& tile, int key,
                                    bool hidden_low, bool hidden_high, bool all, float (&x)[N][4],
                                    float (&d)[N][4]) {
  const float scale = p.scale * kLog2E;
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int i = 8 * n + c + static_cast<int>(threadIdx.x) % 4 * 2;
      const Range seen = VisibleKeys(p, tile.first + i);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int j = key + 8 * r;
        float& weight = x[n][2 * r + c];
        float& slope = d[n][2 * r + c];
        const bool sees =
            all || (j >= seen.begin && j < seen.end && !(r == 0 ? hidden_low : hidden_high));
        weight = sees ? exp2f(fmaf(weight, scale, -tile.shifts[i])) : 0.0F;
        float kept = 1;
        if (p.dropout.on) {
          const float2 pair = DropoutOfKeys(p.dropout, tile.head, tile.first + i, j & ~1);
          kept = j % 2 == 0 ? pair.x : pair.y;
        }
        slope = weight * fmaf(kept, slope, -tile.means[i]);
        weight *= kept;
      }
    }
  }
}

// Columns of d_k and d_v that a block of the pass over keys makes.
template <int kWidth>
constexpr int kSlice = kWidth < 128 ? kWidth : 128;

template <typename T, int kWidth>
__global__ void __launch_bounds__(BackwardTiles<T, kWidth>::kRows * 2)
    KeysKernel(SoftmaxCudaProblem p, SoftmaxCudaGradients g) {
  using Tiles = BackwardTiles<T, kWidth>;
  constexpr int kThreads = Tiles::kRows * 2;
  constexpr int kStride = tiles::StrideOf<T>(kWidth);
  extern __shared__ uint4 memory[];
  T* const k_rows = reinterpret_cast<T*>(memory);
  T* const v_rows = k_rows + Tiles::kRows * kStride;
  T* const q_rows = v_rows + Tiles::kRows * kStride;
  T* const d_rows = q_rows + Tiles::kTile * kStride;
  auto* const shifts = reinterpret_cast<float*>(d_rows + Tiles::kTile * kStride);
  float* const means = shifts + Tiles::kTile;

  // The blocks with most queries, those of the first keys, first.
  const int all_heads = p.batch * p.kv_heads;
  const int slice = static_cast<int>(blockIdx.x) % (kWidth / kSlice<kWidth>)*kSlice<kWidth>;
  const int block = static_cast<int>(blockIdx.x) / (kWidth / kSlice<kWidth>);
  const int batch = block % all_heads / p.kv_heads;
  const int kv_head = block % p.kv_heads;
  const int first_key = block / all_heads * Tiles::kRows;
  const Range queries = QueriesOfKeys(p, first_key, min(first_key + Tiles::kRows, p.keys));
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int key = first_key + warp_row + static_cast<int>(threadIdx.x) % 32 / 4;
  const auto hides = [&](int j) {
    return j >= p.keys || (p.valid != nullptr && p.valid[int64_t{batch} * p.keys + j] == 0);
  };
  const bool hidden_low = hides(key);
  const bool hidden_high = hides(key + 8);

  const auto copy_keys = [&](const void* from, T* to) {
    CopyRows<Tiles::kRows, kWidth, kThreads>(from, p.keys, p.kv_heads, batch, kv_head, p.head_dim,
                                             p.vectors, first_key, to);
  };
  copy_keys(p.k, k_rows);
  copy_keys(p.v, v_rows);
  float d_k[kSlice<kWidth> / 8][4] = {};
  float d_v[kSlice<kWidth> / 8][4] = {};
  const int group = p.heads / p.kv_heads;
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const int64_t row = (int64_t{batch} * p.heads + head) * p.queries;
    for (int query = queries.begin; query < queries.end; query += Tiles::kTile) {
      const auto copy_queries = [&](const void* from, T* to) {
        CopyRows<Tiles::kTile, kWidth, kThreads>(from, p.queries, p.heads, batch, head, p.head_dim,
                                                 p.vectors, query, to);
      };
      copy_queries(p.q, q_rows);
      copy_queries(g.d_o, d_rows);
      if (threadIdx.x < Tiles::kTile) {
        const int i = query + static_cast<int>(threadIdx.x);
        shifts[threadIdx.x] = ShiftOf(p, g.lse, row, i);
        means[threadIdx.x] = i < p.queries ? g.means[row + i] : 0.0F;
      }
      AwaitCopies();
      __syncthreads();
      float x[Tiles::kTile / 8][4] = {};
      float d[Tiles::kTile / 8][4] = {};
      tiles::ProductOfRows(k_rows + warp_row * kStride, kStride, q_rows, kStride, kWidth, x);
      tiles::ProductOfRows(v_rows + warp_row * kStride, kStride, d_rows, kStride, kWidth, d);
      const bool all =
          AllVisible(p, query, query + Tiles::kTile, first_key, first_key + Tiles::kRows);
      SlopesOfKeys(p, {shifts, means, query, batch * p.heads + head}, key, hidden_low, hidden_high,
                   all, x, d);
      tiles::ProductOfColumns(x, d_rows + slice, kStride, d_v);
      tiles::ProductOfColumns(d, q_rows + slice, kStride, d_k);
      __syncthreads();
    }
  }
  AwaitCopies();
  StoreRows<kSlice<kWidth> / 8, T>(d_k, p.scale, p.scale, g.d_k, p.keys, p.kv_heads, batch, kv_head,
                                   p.head_dim, first_key + warp_row, slice);
  StoreRows<kSlice<kWidth> / 8, T>(d_v, 1, 1, g.d_v, p.keys, p.kv_heads, batch, kv_head, p.head_dim,
                                   first_key + warp_row, slice);
}

// x: logits of 16 queries (rows) with a tile of keys; d: gradients of their weights after dropout,
// become those of the logits.
template <int N>
__device__ inline void SlopesOfQueries(const SoftmaxCudaProblem& p, int head, int query, int key,
                                       const float (&shifts)[2], const float (&means)[2],
                                       const int32_t* hidden, bool all, const float (&x)[N][4],
                                       float (&d)[N][4]) {
  const float scale = p.scale * kLog2E;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const Range seen = VisibleKeys(p, query + 8 * r);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const int j = 8 * n + static_cast<int>(threadIdx.x) % 4 * 2;
      float2 kept = {1, 1};
      if (p.dropout.on) kept = DropoutOfKeys(p.dropout, head, query + 8 * r, key + j);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const bool sees = all || (key + j + c >= seen.begin && key + j + c < seen.end &&
                                  (p.valid == nullptr || hidden[j + c] == 0));
        const float weight = sees ? exp2f(fmaf(x[n][2 * r + c], scale, -shifts[r])) : 0.0F;
        d[n][2 * r + c] = weight * fmaf(c == 0 ? kept.x : kept.y, d[n][2 * r + c], -means[r]);
      }
    }
  }
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(BackwardTiles<T, kWidth>::kRows * 2)
    QueriesKernel(SoftmaxCudaProblem p, SoftmaxCudaGradients g) {
  using Tiles = BackwardTiles<T, kWidth>;
  constexpr int kThreads = Tiles::kRows * 2;
  constexpr int kStride = tiles::StrideOf<T>(kWidth);
  extern __shared__ uint4 memory[];
  T* const q_rows = reinterpret_cast<T*>(memory);
  T* const d_rows = q_rows + Tiles::kRows * kStride;
  T* const k_rows = d_rows + Tiles::kRows * kStride;
  T* const v_rows = k_rows + Tiles::kTile * kStride;
  auto* const hidden = reinterpret_cast<int32_t*>(v_rows + Tiles::kTile * kStride);

  const int all_heads = p.batch * p.heads;
  const int batch = static_cast<int>(blockIdx.x) % all_heads / p.heads;
  const int head = static_cast<int>(blockIdx.x) % p.heads;
  const int kv_head = head / (p.heads / p.kv_heads);
  const int first_query =
      static_cast<int>(gridDim.x / all_heads - 1 - blockIdx.x / all_heads) * Tiles::kRows;
  const Range keys =
      KeysOfQueries(p, first_query, min(first_query + Tiles::kRows, p.queries), Tiles::kTile);
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int query = first_query + warp_row + static_cast<int>(threadIdx.x) % 32 / 4;
  const int64_t row = (int64_t{batch} * p.heads + head) * p.queries;
  const float shifts[2] = {ShiftOf(p, g.lse, row, query), ShiftOf(p, g.lse, row, query + 8)};
  const float means[2] = {query < p.queries ? g.means[row + query] : 0.0F,
                          query + 8 < p.queries ? g.means[row + query + 8] : 0.0F};

  const auto copy_queries = [&](const void* from, T* to) {
    CopyRows<Tiles::kRows, kWidth, kThreads>(from, p.queries, p.heads, batch, head, p.head_dim,
                                             p.vectors, first_query, to);
  };
  copy_queries(p.q, q_rows);
  copy_queries(g.d_o, d_rows);
  float d_q[kWidth / 8][4] = {};
  for (int key = keys.begin; key < keys.end; key += Tiles::kTile) {
    const auto copy_keys = [&](const void* from, T* to) {
      CopyRows<Tiles::kTile, kWidth, kThreads>(from, p.keys, p.kv_heads, batch, kv_head, p.head_dim,
                                               p.vectors, key, to);
    };
    copy_keys(p.k, k_rows);
    copy_keys(p.v, v_rows);
    if (p.valid != nullptr && threadIdx.x < Tiles::kTile) {
      const int j = key + static_cast<int>(threadIdx.x);
      hidden[threadIdx.x] = j < p.keys && p.valid[int64_t{batch} * p.keys + j] != 0 ? 0 : 1;
    }
    AwaitCopies();
    __syncthreads();
    float x[Tiles::kTile / 8][4] = {};
    float d[Tiles::kTile / 8][4] = {};
    tiles::ProductOfRows(q_rows + warp_row * kStride, kStride, k_rows, kStride, kWidth, x);
    tiles::ProductOfRows(d_rows + warp_row * kStride, kStride, v_rows, kStride, kWidth, d);
    const bool all =
        AllVisible(p, first_query, first_query + Tiles::kRows, key, key + Tiles::kTile);
    SlopesOfQueries(p, batch * p.heads + head, query, key, shifts, means, hidden, all, x, d);
    tiles::ProductOfColumns(d, k_rows, kStride, d_q);
    __syncthreads();
  }
  AwaitCopies();
  StoreRows<kWidth / 8, T>(d_q, p.scale, p.scale, g.d_q, p.queries, p.heads, batch, head,
                           p.head_dim, first_query + warp_row, 0);
}

}  // namespace

cudaError_t LaunchSoftmaxMeans(const CudaLaunch& on, const SoftmaxCudaProblem& p, const void* o,
                               const void* d_o, float* means) {
  const int64_t rows = int64_t{p.batch} * p.queries * p.heads;
  return ForComputeType(on, [&]<typename T>() {
    const auto blocks = static_cast<unsigned>(CeilDiv(rows, kMeansThreads / 32));
    MeansKernel<T><<<blocks, kMeansThreads, 0, on.stream>>>(p, o, d_o, means);
    return cudaGetLastError();
  });
}

cudaError_t LaunchSoftmaxBackward(const CudaLaunch& on, const SoftmaxCudaProblem& p,
                                  const SoftmaxCudaGradients& g) {
  if (p.queries > 0) {
    const cudaError_t error = LaunchSoftmaxMeans(on, p, g.o, g.d_o, g.means);
    if (error != cudaSuccess) return error;
  }
  return ForTypeAndWidth(on, p.head_dim, [&]<typename T, int kWidth>() {
    using Tiles = BackwardTiles<T, kWidth>;
    constexpr int kThreads = Tiles::kRows * 2;
    constexpr int kBytes = 2 * (Tiles::kRows + Tiles::kTile) * tiles::StrideOf<T>(kWidth) *
                               static_cast<int>(sizeof(T)) +
                           2 * Tiles::kTile * 4;
    if (p.keys > 0) {
      const int64_t blocks =
          CeilDiv(p.keys, Tiles::kRows) * p.batch * p.kv_heads * (kWidth / kSlice<kWidth>);
      const cudaError_t error = LaunchShared(KeysKernel<T, kWidth>, static_cast<unsigned>(blocks),
                                             kThreads, kBytes, on.stream, p, g);
      if (error != cudaSuccess) return error;
    }
    if (p.queries == 0) return cudaSuccess;
    const int64_t blocks = CeilDiv(p.queries, Tiles::kRows) * p.batch * p.heads;
    return LaunchShared(QueriesKernel<T, kWidth>, static_cast<unsigned>(blocks), kThreads, kBytes,
                        on.stream, p, g);
  });
}

}  // namespace weft::kernels
