// Graphs by the law of sampling_law.h: for every query how many edges, then the edges, each on a
// lane of its own. All decisions are made on integers and every edge only sets a bit, so the graph
// is that of the other devices.
#include <algorithm>

#include "kernels/attention/sbm/cuda/graph_sums.cuh"
#include "kernels/attention/sbm/sampling_units.h"
#include "kernels/device/cuda/cuda_carver.h"
#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/vector.cuh"
#include "kernels/random/philox.cuh"
#include "kernels/random/poisson_law.h"
#include "kernels/random/uniform.h"

namespace weft::kernels::sbm {
namespace {

constexpr int kWarps = 8;  // of a block; each has a query
constexpr int kThreads = 32 * kWarps;
constexpr unsigned kAll = 0xFFFFFFFF;

__device__ inline uint64_t Choose(uint32_t w0, uint32_t w1, uint64_t limit) {
  return __umul64hi((uint64_t{w0} << 32) | w1, limit);
}

// One query of one head, on a warp.
template <typename Word>
struct Query {
  __device__ Query(const GraphArgs& args, const SliceSpace& space, int first_head)
      : args(args),
        space(space),
        lane(static_cast<int>(threadIdx.x) % 32),
        i(static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32),
        in_slice(static_cast<int>(blockIdx.y)),
        head(first_head + in_slice),
        sequence(head / args.sizes.heads),
        exists(i < args.sizes.queries),
        position(i + args.sizes.keys - args.sizes.queries),
        row(int64_t{in_slice} * args.sizes.queries + i),
        end(args.sizes.causal ? position + 1 : args.sizes.keys),
        reach(end) {
    if (!exists || args.valid == nullptr) return;
    const int32_t* const before = space.reach + int64_t{sequence} * (args.sizes.keys + 1);
    reach = before[position + 1] == before[position] ? 0 : before[end];
  }

  // Running sums of the memberships in a cluster.
  [[nodiscard]] __device__ const Word* Sums(int cluster) const {
    return static_cast<const Word*>(space.sums) +
           (int64_t{in_slice} * args.sizes.clusters + cluster) * args.sizes.keys;
  }
  [[nodiscard]] __device__ uint64_t Reached(int cluster) const { return Sums(cluster)[end - 1]; }
  [[nodiscard]] __device__ const uint64_t* Weights() const {
    return space.weights + row * args.sizes.clusters;
  }
  [[nodiscard]] __device__ uint64_t* Running() const {
    return space.running + row * (args.sizes.clusters + 1);
  }
  [[nodiscard]] __device__ uint4 Words(const DrawPlace& place, int ordinal) const {
    return Philox4x32(make_uint4(static_cast<uint32_t>(position),
                                 place.first_ordinal + static_cast<uint32_t>(ordinal),
                                 place.counter2 + static_cast<uint32_t>(head), place.counter3),
                      args.seed);
  }
  [[nodiscard]] __device__ uint32_t* Bits() const {
    const int64_t words = CeilDiv(args.sizes.keys, 64) * 2;
    return args.bits + (int64_t{head} * args.sizes.queries + i) * words;
  }

  const GraphArgs& args;
  const SliceSpace& space;
  int lane, i, in_slice, head, sequence;
  bool exists;
  int position;
  int64_t row;
  int end;    // no key at or beyond it can be reached
  int reach;  // how many keys can be; 0 for padding
};

__device__ int64_t PoissonCount(uint64_t seed, uint4 counter, double lambda) {
  if (!(lambda > 0.0)) return 0;
  if (lambda < kInversionBelow) {
    const uint4 words = Philox4x32(counter, seed);
    return PoissonByInversion(U53(words.x, words.y), lambda);
  }
  const PoissonRejection rejection(lambda);
  for (;; ++counter.y) {
    const uint4 words = Philox4x32(counter, seed);
    const double k = rejection.Attempt(U32(words.x), U32(words.y));
    if (k >= 0.0) return static_cast<int64_t>(k);
  }
}

// The running sums of r, and from them how many edges the query gets and in which way.
template <typename Word>
__global__ void __launch_bounds__(kThreads)
    CountKernel(GraphArgs args, SliceSpace space, int first_head) {
  const Query<Word> query(args, space, first_head);
  if (!query.exists) return;
  const int clusters = args.sizes.clusters;
  const int shortening = Shortening(query.reach);
  uint64_t total = 0;
  uint64_t largest = 0;
  for (int first = 0; first < clusters && query.reach > 0; first += 32) {
    const int v = first + query.lane;
    uint64_t r = 0;
    if (v < clusters) {
      const uint64_t w = query.Weights()[v];
      r = w * (query.Reached(v) >> shortening);
      if (space.largest != nullptr) {
        largest += w * space.largest[(int64_t{query.in_slice} * clusters + v) * args.sizes.keys +
                                     query.end - 1];
      }
    }
    for (int distance = 1; distance < 32; distance *= 2) {
      const uint64_t before = __shfl_up_sync(kAll, r, distance);
      if (query.lane >= distance) r += before;
    }
    r += total;
    if (v < clusters) query.Running()[v] = r;
    total = __shfl_sync(kAll, r, 31);
  }
  largest = GroupReduce<32>(largest, AddOf());
  if (query.lane != 0) return;
  total += static_cast<uint64_t>(rint(args.exploration * kAffinityUnit)) *
           ((static_cast<uint64_t>(query.reach) << 20) >> shortening);
  query.Running()[clusters] = total;
  const double expected = static_cast<double>(total) * ldexp(kIntensityUnit, shortening);
  double lambda = query.reach > 0 ? expected : 0.0;
  double factor = args.law == GraphArgs::Law::kDense && query.reach > 0 ? kVisits : 0.0;
  if (args.law == GraphArgs::Law::kExact && query.reach > 0) {
    const double most = static_cast<double>(largest) * kIntensityUnit + args.exploration;
    factor = most > 0.0 ? CandidateFactor(fmin(most, kLargestThinned)) : 0.0;
    lambda = factor * expected;
    if (factor > 0.0 && VisitsAll(most, lambda, query.reach)) factor = kVisits;
  }
  const uint4 counter =
      make_uint4(static_cast<uint32_t>(query.position), args.counts.first_ordinal,
                 args.counts.counter2 + static_cast<uint32_t>(query.head), args.counts.counter3);
  space.factors[query.row] = factor;
  space.edges[query.row] =
      factor == kVisits ? 0 : static_cast<int32_t>(PoissonCount(args.seed, counter, lambda));
}

// The first entry of `count` that exceeds `drawn`; the last one does.
template <typename Sum>
__device__ inline int FirstBeyond(const Sum* sums, int count, uint64_t drawn) {
  int low = 0;
  while (count > 1) {
    const int half = count / 2;
    const bool right = sums[low + half - 1] <= drawn;
    low += right ? half : 0;
    count = right ? count - half : half;
  }
  return low;
}

// Adds one to a byte, up to 255. The order of additions does not matter.
__device__ inline void CountCopy(uint32_t* words, int key) {
  uint32_t* const word = words + key / 4;
  const int shift = key % 4 * 8;
  uint32_t seen = *word;
  while ((seen >> shift & 255U) != 255U) {
    const uint32_t before = atomicCAS(word, seen, seen + (1U << shift));
    if (before == seen) return;
    seen = before;
  }
}

template <typename Word>
__global__ void __launch_bounds__(kThreads)
    DrawKernel(GraphArgs args, SliceSpace space, int first_head) {
  const Query<Word> query(args, space, first_head);
  if (!query.exists) return;
  const int clusters = args.sizes.clusters;
  const int edges = space.edges[query.row];
  const uint64_t* const running = query.Running();
  const uint64_t total = edges == 0 ? 0 : running[clusters];
  uint32_t* const bits = query.Bits();
  uint32_t* const copies =
      args.copies == nullptr ? nullptr
                             : args.copies + (int64_t{query.head} * args.sizes.queries + query.i) *
                                                 CeilDiv(args.sizes.keys, 4);
  const int32_t* const valid_keys =
      args.valid == nullptr ? nullptr
                            : space.valid_keys + int64_t{query.sequence} * args.sizes.keys;
  for (int edge = query.lane; edge < edges; edge += 32) {
    const uint4 words = query.Words(args.edges, edge);
    const int v = FirstBeyond(running, clusters + 1, Choose(words.x, words.y, total));
    int key = 0;
    if (v == clusters) {
      key = static_cast<int>(Choose(words.z, words.w, static_cast<uint64_t>(query.reach)));
      if (valid_keys != nullptr) key = valid_keys[key];
    } else {
      key = FirstBeyond(query.Sums(v), query.end, Choose(words.z, words.w, query.Reached(v)));
    }
    atomicOr(bits + key / 32, 1U << (key % 32));
    if (copies != nullptr) CountCopy(copies, key);
  }
}

// Drops some of the candidates of a query, so that the rest have the probability p + exploration.
template <typename Word>
__global__ void __launch_bounds__(kThreads)
    ThinKernel(GraphArgs args, SliceSpace space, int first_head) {
  const Query<Word> query(args, space, first_head);
  if (!query.exists || !(space.factors[query.row] > 0.0)) return;
  const double factor = space.factors[query.row];
  const int clusters = args.sizes.clusters;
  const uint64_t* const weights = query.Weights();
  const float* const rows = args.key + int64_t{query.head} * args.sizes.keys * clusters;
  uint32_t* const bits = query.Bits();
  for (int word = 0; word < CeilDiv(args.sizes.keys, 32); ++word) {
    uint32_t kept = bits[word];
    for (uint32_t left = kept; left != 0; left &= left - 1) {
      const int key = 32 * word + __ffs(static_cast<int>(left)) - 1;
      uint64_t sum = 0;
      for (int v = query.lane; v < clusters; v += 32) {
        const float share = rows[int64_t{key} * clusters + v];
        sum += weights[v] * static_cast<uint64_t>(InUnits(share, kMembershipUnit));
      }
      sum = GroupReduce<32>(sum, AddOf());
      const double p = static_cast<double>(sum) * kIntensityUnit + args.exploration;
      const uint4 words = query.Words(args.thinning, key);
      if (U53(words.x, words.y) >= KeptShare(p, factor)) kept &= ~(left & -left);
    }
    if (query.lane == 0) bits[word] = kept;
  }
}

// Every pair by itself, for the queries that visit all.
template <typename Word>
__global__ void __launch_bounds__(kThreads)
    VisitKernel(GraphArgs args, SliceSpace space, int first_head) {
  const Query<Word> query(args, space, first_head);
  if (!query.exists || space.factors[query.row] != kVisits) return;
  const int clusters = args.sizes.clusters;
  const uint64_t* const weights = query.Weights();
  const int32_t* const valid =
      args.valid == nullptr ? nullptr : args.valid + int64_t{query.sequence} * args.sizes.keys;
  for (int first = 0; first < query.end; first += 32) {
    const int key = first + query.lane;
    const int inside = min(key, query.end - 1);
    uint64_t sum = 0;
    for (int v = 0; v < clusters; ++v) {
      const Word* const sums = query.Sums(v);
      const uint64_t units = sums[inside] - (inside == 0 ? Word{0} : sums[inside - 1]);
      sum += weights[v] * units;
    }
    const double p = static_cast<double>(sum) * kIntensityUnit + args.exploration;
    const uint4 words = query.Words(args.dense, inside / 4);
    const int which = inside % 4;
    const uint32_t word = which == 0   ? words.x
                          : which == 1 ? words.y
                          : which == 2 ? words.z
                                       : words.w;
    const bool linked =
        key < query.end && (valid == nullptr || valid[key] != 0) && word < WordsBelow(p);
    const uint32_t all = __ballot_sync(kAll, linked);
    if (query.lane == 0) query.Bits()[first / 32] = all;
  }
}

// Edges and possible pairs of the query, added to its head's; sums of integers have no order.
template <typename Word>
__global__ void __launch_bounds__(kThreads)
    TallyKernel(GraphArgs args, SliceSpace space, int first_head) {
  const Query<Word> query(args, space, first_head);
  if (!query.exists) return;
  unsigned linked = 0;
  if (args.copies == nullptr) {
    const uint32_t* const bits = query.Bits();
    for (int w = query.lane; w < CeilDiv(args.sizes.keys, 32); w += 32) linked += __popc(bits[w]);
  } else {
    const int64_t step = CeilDiv(args.sizes.keys, 4);
    const uint32_t* const copies =
        args.copies + (int64_t{query.head} * args.sizes.queries + query.i) * step;
    for (int w = query.lane; w < step; w += 32) linked += __vsadu4(copies[w], 0);
  }
  linked = GroupReduce<32>(linked, AddOf());
  if (query.lane != 0) return;
  using Counter = unsigned long long;  // as CUDA's atomics want it
  atomicAdd(reinterpret_cast<Counter*>(space.linked + query.head), Counter{linked});
  atomicAdd(reinterpret_cast<Counter*>(space.possible + query.head),
            static_cast<Counter>(query.reach));
}

__global__ void DensityKernel(int heads, const uint64_t* linked, const uint64_t* possible,
                              float* density) {
  const int head = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (head >= heads) return;
  density[head] = possible[head] == 0 ? 0.0F
                                      : static_cast<float>(static_cast<double>(linked[head]) /
                                                           static_cast<double>(possible[head]));
}

SliceSpace Carve(const Sizes& s, int heads, CudaCarver& carver) {
  const int64_t table = int64_t{heads} * s.clusters * s.keys;
  const int64_t rows = int64_t{heads} * s.queries;
  SliceSpace space{};
  space.sums = s.keys <= kShortKeys ? static_cast<void*>(carver.Take<uint32_t>(table))
                                    : static_cast<void*>(carver.Take<uint64_t>(table));
  space.largest = carver.Take<uint32_t>(table);
  space.weights = carver.Take<uint64_t>(rows * s.clusters);
  space.running = carver.Take<uint64_t>(rows * (s.clusters + 1));
  space.factors = carver.Take<double>(rows);
  space.edges = carver.Take<int32_t>(rows);
  space.reach = carver.Take<int32_t>(int64_t{s.batch} * (s.keys + 1));
  space.valid_keys = carver.Take<int32_t>(int64_t{s.batch} * s.keys);
  space.linked = carver.Take<uint64_t>(s.all_heads());
  space.possible = carver.Take<uint64_t>(s.all_heads());
  return space;
}

template <typename Word>
cudaError_t DrawSlice(const CudaLaunch& on, const GraphArgs& args, const SliceSpace& space,
                      Slice slice) {
  const dim3 grid(static_cast<unsigned>(CeilDiv(args.sizes.queries, kWarps)),
                  static_cast<unsigned>(slice.heads));
  CountKernel<Word><<<grid, kThreads, 0, on.stream>>>(args, space, slice.first);
  if (args.law != GraphArgs::Law::kDense) {
    DrawKernel<Word><<<grid, kThreads, 0, on.stream>>>(args, space, slice.first);
  }
  if (args.law == GraphArgs::Law::kExact) {
    ThinKernel<Word><<<grid, kThreads, 0, on.stream>>>(args, space, slice.first);
  }
  if (args.law != GraphArgs::Law::kPoisson) {
    VisitKernel<Word><<<grid, kThreads, 0, on.stream>>>(args, space, slice.first);
  }
  TallyKernel<Word><<<grid, kThreads, 0, on.stream>>>(args, space, slice.first);
  return cudaGetLastError();
}

}  // namespace

int64_t GraphScratchBytes(const Sizes& sizes, int heads_at_once) {
  CudaCarver carver(nullptr);
  Carve(sizes, heads_at_once, carver);
  return carver.used();
}

cudaError_t DrawGraph(const CudaLaunch& on, const GraphArgs& args, int heads_at_once) {
  const Sizes& s = args.sizes;
  CudaCarver carver(args.scratch);
  SliceSpace space = Carve(s, heads_at_once, carver);
  if (args.law != GraphArgs::Law::kExact) space.largest = nullptr;
  const int64_t rows = int64_t{s.all_heads()} * s.queries;
  const int64_t counters = sizeof(uint64_t) * s.all_heads();
  cudaMemsetAsync(args.bits, 0, rows * CeilDiv(s.keys, 64) * 8, on.stream);
  if (args.copies != nullptr) {
    cudaMemsetAsync(args.copies, 0, rows * CeilDiv(s.keys, 4) * 4, on.stream);
  }
  cudaMemsetAsync(space.linked, 0, counters, on.stream);
  cudaMemsetAsync(space.possible, 0, counters, on.stream);
  cudaError_t error = ListValidKeys(on, args, space);
  for (int first = 0; first < s.all_heads() && s.queries > 0; first += heads_at_once) {
    const Slice slice{first, std::min(heads_at_once, s.all_heads() - first)};
    if (error == cudaSuccess) error = SumKeys(on, args, space, slice);
    if (error == cudaSuccess) error = WeighQueries(on, args, space, slice);
    if (error != cudaSuccess) return error;
    error = s.keys <= kShortKeys ? DrawSlice<uint32_t>(on, args, space, slice)
                                 : DrawSlice<uint64_t>(on, args, space, slice);
  }
  if (error != cudaSuccess) return error;
  DensityKernel<<<static_cast<unsigned>(CeilDiv(s.all_heads(), 128)), 128, 0, on.stream>>>(
      s.all_heads(), space.linked, space.possible, args.density);
  return cudaGetLastError();
}

}  // namespace weft::kernels::sbm
