// Hashes in fp64, and buckets by their rank; the tokens of buckets as lists.
#include "kernels/attention/scatterbrain/cuda/scatterbrain_cuda.h"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::scatterbrain_cuda {
namespace {

constexpr int kThreads = 256;

// One side of a call.
template <typename T>
struct Side {
  const T* rows;  // [B, n, H, D]
  int count;
  bool padded;  // whether `valid` speaks of its tokens
  int slot;     // where the coordinate stands that makes all vectors equally long
};

// A warp a token: |row|^2, in [heads, n].
template <typename T>
__global__ void __launch_bounds__(kThreads) SquaresKernel(Sizes s, Side<T> side, double* squares) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t at = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  if (at >= int64_t{s.all_heads()} * side.count) return;
  const int64_t head = at / side.count;
  const int64_t row = ((head / s.heads) * side.count + at % side.count) * s.heads + head % s.heads;
  double sum = 0;
  for (int d = lane; d < s.key_dim; d += 32) {
    const double x = ToFloat(side.rows[row * s.key_dim + d]);
    sum += x * x;
  }
  sum = GroupReduce<32>(sum, AddOf());
  if (lane == 0) squares[at] = sum;
}

// A block a head: the largest square among the tokens that are no padding.
__global__ void __launch_bounds__(kThreads) LargestKernel(Sizes s, int count, const int32_t* valid,
                                                          const double* squares, double* largest) {
  __shared__ double shared[32];
  const int head = static_cast<int>(blockIdx.x);
  double most = 0;
  for (int t = static_cast<int>(threadIdx.x); t < count; t += kThreads) {
    if (valid != nullptr && valid[int64_t{head / s.heads} * count + t] == 0) continue;
    most = fmax(most, squares[int64_t{head} * count + t]);
  }
  most = BlockReduce<kThreads>(most, MaxOf(), shared);
  if (threadIdx.x == 0) largest[head] = most;
}

// A warp a token and round: its hash, infinite for padding, in [heads, rounds, n].
template <typename T>
__global__ void __launch_bounds__(kThreads)
    HashKernel(Sizes s, Side<T> side, int rounds, const float* projections, const int32_t* valid,
               const double* squares, const double* largest_queries, const double* largest_keys,
               double* hashes) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t at = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  if (at >= int64_t{s.all_heads()} * rounds * side.count) return;
  const int64_t token = at % side.count;
  const int64_t round = at / side.count % rounds;
  const int64_t head = at / side.count / rounds;
  const int64_t row = ((head / s.heads) * side.count + token) * s.heads + head % s.heads;
  const float* const projection = projections + round * (s.key_dim + 2);
  double sum = 0;
  for (int d = lane; d < s.key_dim; d += 32) {
    sum += static_cast<double>(projection[d]) *
           static_cast<double>(ToFloat(side.rows[row * s.key_dim + d]));
  }
  sum = GroupReduce<32>(sum, AddOf());
  if (lane != 0) return;
  const double squares_of_all = largest_queries[head] + largest_keys[head];
  const double missing = fmax(0.0, squares_of_all - squares[head * side.count + token]);
  sum += static_cast<double>(projection[side.slot]) * sqrt(missing);
  const bool is_padding =
      side.padded && valid != nullptr && valid[head / s.heads * side.count + token] == 0;
  hashes[at] = is_padding ? INFINITY : sum;
}

// A thread a token: its rank by counting the smaller hashes; of equal ones the first is smaller.
// blockIdx.y is a row of [heads, rounds].
__global__ void __launch_bounds__(kThreads)
    RankKernel(int count, int bucket, const double* hashes, int32_t* ids) {
  __shared__ double tile[kThreads];
  const int own = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  hashes += int64_t{blockIdx.y} * count;
  const double hash = own < count ? hashes[own] : 0.0;
  int rank = 0;
  for (int first = 0; first < count; first += kThreads) {
    const int other = first + static_cast<int>(threadIdx.x);
    __syncthreads();
    tile[threadIdx.x] = other < count ? hashes[other] : INFINITY;
    __syncthreads();
    const int inside = min(kThreads, count - first);
    for (int n = 0; n < inside; ++n) {
      rank += tile[n] < hash || (tile[n] == hash && first + n < own) ? 1 : 0;
    }
  }
  if (own < count) {
    ids[int64_t{blockIdx.y} * count + own] = hash == INFINITY ? -1 : rank / bucket;
  }
}

// A warp lists the tokens of one bucket, in order. blockIdx.y is a row of ids.
__global__ void __launch_bounds__(kThreads)
    ListKernel(int tokens, int buckets, const int32_t* ids, int32_t* lists, int32_t* starts,
               int32_t* bad_index) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int bucket =
      static_cast<int>(blockIdx.x) * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  if (bucket > buckets) return;  // the warp behind the last counts them all
  const int64_t row = blockIdx.y;
  ids += row * tokens;
  lists += row * tokens;
  int before = 0;
  for (int first = 0; first < tokens; first += 32) {
    const int id = first + lane < tokens ? ids[first + lane] : -1;
    before += __popc(__ballot_sync(0xFFFFFFFF, id >= 0 && id < bucket));
    if (bucket == buckets && id >= buckets) *bad_index = static_cast<int32_t>(first + lane + 1);
  }
  if (lane == 0) starts[row * (buckets + 1) + bucket] = before;
  if (bucket == buckets) return;
  for (int first = 0; first < tokens; first += 32) {
    const bool own = first + lane < tokens && ids[first + lane] == bucket;
    const unsigned all = __ballot_sync(0xFFFFFFFF, own);
    if (own) lists[before + __popc(all & ((1U << lane) - 1))] = first + lane;
    before += __popc(all);
  }
}

unsigned WarpBlocks(int64_t warps) { return static_cast<unsigned>(CeilDiv(warps, kThreads / 32)); }

}  // namespace

int64_t HashScratchBytes(const Sizes& s, int rounds) {
  const int64_t tokens = int64_t{s.all_heads()} * (s.queries + s.keys);
  return (tokens * (1 + rounds) + 2 * int64_t{s.all_heads()}) * 8;
}

cudaError_t HashTokens(const CudaLaunch& on, const HashArgs& args) {
  const Sizes& s = args.sizes;
  const int heads = s.all_heads();
  if (s.queries == 0 || s.keys == 0) return cudaSuccess;
  double* const query_squares = args.scratch;
  double* const key_squares = query_squares + int64_t{heads} * s.queries;
  double* const query_hashes = key_squares + int64_t{heads} * s.keys;
  double* const key_hashes = query_hashes + int64_t{heads} * args.rounds * s.queries;
  double* const largest = key_hashes + int64_t{heads} * args.rounds * s.keys;
  return ForComputeType(on, [&]<typename T>() {
    const auto side = [&](const Side<T>& of, double* squares, double* most) {
      const int32_t* const valid = of.padded ? args.valid : nullptr;
      SquaresKernel<T>
          <<<WarpBlocks(int64_t{heads} * of.count), kThreads, 0, on.stream>>>(s, of, squares);
      LargestKernel<<<heads, kThreads, 0, on.stream>>>(s, of.count, valid, squares, most);
    };
    const auto rank = [&](const Side<T>& of, const double* squares, double* hashes, int bucket,
                          int32_t* ids) {
      const int64_t rows = int64_t{heads} * args.rounds;
      HashKernel<T><<<WarpBlocks(rows * of.count), kThreads, 0, on.stream>>>(
          s, of, args.rounds, args.projections, args.valid, squares, largest, largest + heads,
          hashes);
      const dim3 grid(static_cast<unsigned>(CeilDiv(of.count, kThreads)),
                      static_cast<unsigned>(rows));
      RankKernel<<<grid, kThreads, 0, on.stream>>>(of.count, bucket, hashes, ids);
    };
    const Side<T> queries{static_cast<const T*>(args.q), s.queries, s.queries == s.keys,
                          s.key_dim + 1};
    const Side<T> keys{static_cast<const T*>(args.k), s.keys, true, s.key_dim};
    side(queries, query_squares, largest);
    side(keys, key_squares, largest + heads);
    rank(queries, query_squares, query_hashes, args.query_bucket, args.query_buckets);
    rank(keys, key_squares, key_hashes, args.key_bucket, args.key_buckets);
    return cudaGetLastError();
  });
}

cudaError_t ListBuckets(const CudaLaunch& on, int rows, int tokens, int buckets, const int32_t* ids,
                        int32_t* lists, int32_t* starts, int32_t* bad_index) {
  if (rows == 0) return cudaSuccess;
  const dim3 grid(WarpBlocks(int64_t{buckets} + 1), static_cast<unsigned>(rows));
  ListKernel<<<grid, kThreads, 0, on.stream>>>(tokens, buckets, ids, lists, starts, bad_index);
  return cudaGetLastError();
}

}  // namespace weft::kernels::scatterbrain_cuda
