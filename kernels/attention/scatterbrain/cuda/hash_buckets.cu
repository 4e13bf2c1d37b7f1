// Hashes in fp64, and buckets by their ranks; the tokens of buckets as lists.
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

// A warp a token: |row|^2 in [heads, n], and its products with the projections in [heads, rounds,
// n]. blockIdx.y is a head.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    ProductsKernel(Sizes s, Side<T> side, int rounds, const float* projections, double* squares,
                   double* products) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int token =
      static_cast<int>(blockIdx.x) * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  const auto head = static_cast<int>(blockIdx.y);
  if (token >= side.count) return;
  const T* const row =
      side.rows +
      ((int64_t{head / s.heads} * side.count + token) * s.heads + head % s.heads) * s.key_dim;
  double sum = 0;
  for (int d = lane; d < s.key_dim; d += 32) {
    const double x = ToFloat(row[d]);
    sum += x * x;
  }
  sum = GroupReduce<32>(sum, AddOf());
  if (lane == 0) squares[int64_t{head} * side.count + token] = sum;
  for (int round = 0; round < rounds; ++round) {
    const float* const projection = projections + int64_t{round} * (s.key_dim + 2);
    double product = 0;
    for (int d = lane; d < s.key_dim; d += 32) {
      product += static_cast<double>(projection[d]) * static_cast<double>(ToFloat(row[d]));
    }
    product = GroupReduce<32>(product, AddOf());
    if (lane == 0) products[(int64_t{head} * rounds + round) * side.count + token] = product;
  }
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

// A thread a token: products become hashes, infinite for padding. blockIdx.y is a head.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    HashKernel(Sizes s, Side<T> side, int rounds, const float* projections, const int32_t* valid,
               const double* squares, const double* largest_queries, const double* largest_keys,
               double* hashes) {
  const int token = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const auto head = static_cast<int>(blockIdx.y);
  if (token >= side.count) return;
  const double squares_of_all = largest_queries[head] + largest_keys[head];
  const double missing = fmax(0.0, squares_of_all - squares[int64_t{head} * side.count + token]);
  const bool is_padding =
      side.padded && valid != nullptr && valid[int64_t{head / s.heads} * side.count + token] == 0;
  for (int round = 0; round < rounds; ++round) {
    const double factor = projections[int64_t{round} * (s.key_dim + 2) + side.slot];
    double& hash = hashes[(int64_t{head} * rounds + round) * side.count + token];
    hash = is_padding ? INFINITY : hash + factor * sqrt(missing);
  }
}

// Ranks: stretches of kSorted tokens are sorted, then every token is looked up in all of them. Of
// equal hashes the earlier token's is the smaller one. blockIdx.y is a row of [heads, rounds].
constexpr int kSorted = 1024;

// A block a stretch: bitonic sort (Batcher 1968, "Sorting networks and their applications"). Writes
// the hashes in order, and into `places` where in its stretch each token's is.
__global__ void __launch_bounds__(kSorted / 2)
    SortKernel(int count, const double* hashes, double* sorted, int32_t* places) {
  __shared__ double hash[kSorted];
  __shared__ int token[kSorted];
  const int thread = static_cast<int>(threadIdx.x);
  const int first = static_cast<int>(blockIdx.x) * kSorted;
  const int64_t row = int64_t{blockIdx.y} * count;
  for (int i = thread; i < kSorted; i += kSorted / 2) {
    hash[i] = first + i < count ? hashes[row + first + i] : INFINITY;
    token[i] = i;
  }
  for (int size = 2; size <= kSorted; size *= 2) {
    for (int distance = size / 2; distance > 0; distance /= 2) {
      __syncthreads();
      const int low = thread / distance * 2 * distance + thread % distance;
      const int high = low + distance;
      const bool ascending = (low & size) == 0;
      const bool less =
          hash[low] < hash[high] || (hash[low] == hash[high] && token[low] < token[high]);
      if (less != ascending) {
        const double other_hash = hash[low];
        hash[low] = hash[high];
        hash[high] = other_hash;
        const int other_token = token[low];
        token[low] = token[high];
        token[high] = other_token;
      }
    }
  }
  __syncthreads();
  for (int i = thread; i < kSorted; i += kSorted / 2) {
    if (first + token[i] < count) places[row + first + token[i]] = i;
    if (first + i < count) sorted[row + first + i] = hash[i];
  }
}

// How many of `count` numbers in order are smaller, or not larger.
__device__ inline int CountBelow(const double* sorted, int count, double hash, bool or_equal) {
  int begin = 0;
  int end = count;
  while (begin < end) {
    const int middle = (begin + end) / 2;
    const bool below = or_equal ? sorted[middle] <= hash : sorted[middle] < hash;
    if (below) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

// A thread a token: `places` become buckets.
__global__ void __launch_bounds__(kThreads)
    RankKernel(int count, int bucket, const double* hashes, const double* sorted, int32_t* places) {
  __shared__ double stretch[kSorted];
  const int own = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int own_first = static_cast<int>(blockIdx.x) * kThreads / kSorted * kSorted;
  const int64_t row = int64_t{blockIdx.y} * count;
  const double hash = own < count ? hashes[row + own] : 0.0;
  int rank = own < count ? places[row + own] : 0;
  for (int first = 0; first < count; first += kSorted) {
    if (first == own_first) continue;
    const int inside = min(kSorted, count - first);
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < inside; i += kThreads) {
      stretch[i] = sorted[row + first + i];
    }
    __syncthreads();
    rank += CountBelow(stretch, inside, hash, /*or_equal=*/first < own_first);
  }
  if (own < count) places[row + own] = hash == INFINITY ? -1 : rank / bucket;
}

// A warp lists the tokens of a row of ids by bucket, in order within each: it counts them, finds
// where buckets end, and fills them from behind.
constexpr int kSharedBuckets = 4096;
__global__ void __launch_bounds__(32)
    ListKernel(int tokens, int buckets, const int32_t* ids, int32_t* lists, int32_t* starts,
               int32_t* bad_index) {
  __shared__ int32_t shared[kSharedBuckets];
  const int lane = static_cast<int>(threadIdx.x);
  ids += int64_t{blockIdx.x} * tokens;
  lists += int64_t{blockIdx.x} * tokens;
  starts += int64_t{blockIdx.x} * (buckets + 1);
  int32_t* const ends = buckets <= kSharedBuckets ? shared : starts;
  const auto id_of = [&](int token) {
    return token >= 0 && token < tokens && ids[token] < buckets ? ids[token] : -1;
  };
  for (int b = lane; b < buckets; b += 32) ends[b] = 0;
  __syncwarp();
  int id = id_of(lane);
  for (int first = 0; first < tokens; first += 32) {
    const int next = id_of(first + 32 + lane);  // on its way meanwhile
    if (first + lane < tokens && ids[first + lane] >= buckets) {
      *bad_index = static_cast<int32_t>(first + lane + 1);
    }
    const unsigned same = __match_any_sync(0xFFFFFFFF, id);
    if (id >= 0 && lane == __ffs(static_cast<int>(same)) - 1) ends[id] += __popc(same);
    __syncwarp();
    id = next;
  }
  int total = 0;
  for (int first = 0; first < buckets; first += 32) {
    int end = first + lane < buckets ? ends[first + lane] : 0;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int before = __shfl_up_sync(0xFFFFFFFF, end, distance);
      if (lane >= distance) end += before;
    }
    end += total;
    if (first + lane < buckets) ends[first + lane] = end;
    total = __shfl_sync(0xFFFFFFFF, end, 31);
  }
  __syncwarp();
  const int last = (tokens - 1) / 32 * 32;
  id = id_of(last + lane);
  for (int first = last; first >= 0; first -= 32) {
    const int next = id_of(first - 32 + lane);
    const unsigned same = __match_any_sync(0xFFFFFFFF, id);
    const int end = id >= 0 ? ends[id] : 0;
    __syncwarp();
    if (id >= 0) {
      lists[end - __popc(same >> lane)] = first + lane;
      if (lane == __ffs(static_cast<int>(same)) - 1) ends[id] = end - __popc(same);
    }
    __syncwarp();
    id = next;
  }
  if (ends != starts) {
    for (int b = lane; b < buckets; b += 32) starts[b] = ends[b];
  }
  if (lane == 0) starts[buckets] = total;
}

}  // namespace

int64_t HashScratchBytes(const Sizes& s, int rounds) {
  const int64_t tokens = int64_t{s.all_heads()} * (s.queries + s.keys);
  return (tokens * (1 + 2 * rounds) + 2 * int64_t{s.all_heads()}) * 8;
}

cudaError_t HashTokens(const CudaLaunch& on, const HashArgs& args) {
  const Sizes& s = args.sizes;
  const int heads = s.all_heads();
  if (s.queries == 0 || s.keys == 0) return cudaSuccess;
  double* const query_squares = args.scratch;
  double* const key_squares = query_squares + int64_t{heads} * s.queries;
  double* const query_hashes = key_squares + int64_t{heads} * s.keys;
  double* const key_hashes = query_hashes + int64_t{heads} * args.rounds * s.queries;
  double* const sorted = key_hashes + int64_t{heads} * args.rounds * s.keys;
  double* const largest = sorted + int64_t{heads} * args.rounds * (s.queries + s.keys);
  return ForComputeType(on, [&]<typename T>() {
    const auto grid = [&](int count, int tokens, int rows) {
      return dim3(static_cast<unsigned>(CeilDiv(count, tokens)), static_cast<unsigned>(rows));
    };
    const auto project = [&](const Side<T>& of, double* squares, double* products, double* most) {
      const int32_t* const valid = of.padded ? args.valid : nullptr;
      ProductsKernel<T><<<grid(of.count, kThreads / 32, heads), kThreads, 0, on.stream>>>(
          s, of, args.rounds, args.projections, squares, products);
      LargestKernel<<<heads, kThreads, 0, on.stream>>>(s, of.count, valid, squares, most);
    };
    const auto rank = [&](const Side<T>& of, const double* squares, double* hashes, int bucket,
                          int32_t* ids) {
      const int rows = heads * args.rounds;
      HashKernel<T><<<grid(of.count, kThreads, heads), kThreads, 0, on.stream>>>(
          s, of, args.rounds, args.projections, args.valid, squares, largest, largest + heads,
          hashes);
      SortKernel<<<grid(of.count, kSorted, rows), kSorted / 2, 0, on.stream>>>(of.count, hashes,
                                                                               sorted, ids);
      RankKernel<<<grid(of.count, kThreads, rows), kThreads, 0, on.stream>>>(of.count, bucket,
                                                                             hashes, sorted, ids);
    };
    const Side<T> queries{static_cast<const T*>(args.q), s.queries, s.queries == s.keys,
                          s.key_dim + 1};
    const Side<T> keys{static_cast<const T*>(args.k), s.keys, true, s.key_dim};
    project(queries, query_squares, query_hashes, largest);
    project(keys, key_squares, key_hashes, largest + heads);
    rank(queries, query_squares, query_hashes, args.query_bucket, args.query_buckets);
    rank(keys, key_squares, key_hashes, args.key_bucket, args.key_buckets);
    return cudaGetLastError();
  });
}

cudaError_t ListBuckets(const CudaLaunch& on, int rows, int tokens, int buckets, const int32_t* ids,
                        int32_t* lists, int32_t* starts, int32_t* bad_index) {
  if (rows == 0) return cudaSuccess;
  ListKernel<<<static_cast<unsigned>(rows), 32, 0, on.stream>>>(tokens, buckets, ids, lists, starts,
                                                                bad_index);
  return cudaGetLastError();
}

}  // namespace weft::kernels::scatterbrain_cuda
