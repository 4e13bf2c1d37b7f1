// Adds the pairs that are written out to what their queries have so far.
#include "kernels/attention/scatterbrain/cuda/normaliser.cuh"
#include "kernels/attention/scatterbrain/cuda/pair_walk.cuh"
#include "kernels/device/cuda/reduce.cuh"

namespace weft::kernels::scatterbrain_cuda {
namespace {

template <typename T, int kWidth>
struct Shared {
  static constexpr int kStride = tiles::StrideOf<T>(kWidth);
  alignas(16) T q[kOwn * kStride];
  alignas(16) T k[kStages][kOthers * kStride];
  alignas(16) T v[kStages][kOthers * kStride];
  FeaturePlaces<T> features;
  OtherRows keys[kStages];
  int names[kNames][kOthers];
  int own[kOwn];
  FurtherFeatures<T> further;
};

// One query of a lane.
struct RunningRow {
  float before;     // reference of what lies in memory
  float reference;  // of what has been added up here
  float exact = 0.0F;
  float low_rank = 0.0F;
};

// The logits of a lane's pairs of one query, in `a`, may have a larger reference: the running
// values are brought to it.
template <typename T, int N>
__device__ inline void Refer(float scale, const Kinds& kinds, int half, float (&a)[kColumns][4],
                             RunningRow& row, float (&o)[N][4]) {
  float largest = -INFINITY;
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int c = 2 * half; c < 2 * half + 2; ++c) {
      a[n][c] *= scale;
      if (kinds.Exact(n, c)) largest = fmaxf(largest, a[n][c]);
    }
  }
  largest = fmaxf(row.reference, tiles::RowReduce(largest, MaxOf()));
  const float fading = row.reference == -INFINITY ? 0.0F : ExpOf<T>(row.reference - largest);
  row.reference = largest;
  row.exact *= fading;
  row.low_rank *= fading;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    o[n][2 * half] *= fading;
    o[n][2 * half + 1] *= fading;
  }
}

// The logits in `a` and the products x = phi . psi become weights, in `a`.
template <typename T>
__device__ inline void Weigh(const Walk& walk, GroupKinds group, const Kinds& kinds,
                             const OwnRows& own, const OtherRows& keys, float (&a)[kColumns][4],
                             const float (&x)[kColumns][4], RunningRow (&rows)[2]) {
  const PairArgs& args = walk.args;
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      RunningRow& row = rows[c / 2];
      const int other = OtherOf(n, c);
      const bool is_exact = kinds.Exact(n, c);
      float low = 0.0F;
      if (group.low_rank) {
        const float scale = own.scale[c / 2] + keys.scale[other];
        const bool none = !kinds.Counts(n, c) || scale == -INFINITY;
        low = none ? 0.0F : ExpOf<T>(scale - row.reference) * x[n][c];
      }
      float exact = 0.0F;
      if (group.exact) exact = is_exact ? ExpOf<T>(a[n][c] - row.reference) : 0.0F;
      float kept = 1.0F;
      if (args.dropout.on && is_exact) {
        kept = DropoutFactor(args.dropout, walk.head, own.token[c / 2], keys.token[other]);
      }
      // What is there already: nothing where pairs are filled in, else the low-rank weight.
      const float there = args.set == PairSet::kFilled ? 0.0F : low;
      const float instead = args.drops_corrections ? (1.0F - kept) * low : 0.0F;
      row.exact += exact;
      row.low_rank += is_exact ? -there : low;
      a[n][c] = is_exact ? kept * exact + instead - there : low;
    }
  }
}

// Brings what lies in memory to the new references and adds what has been added up here; then
// stores it again, or the results if this was the only pass.
template <typename T, int N>
__device__ inline void AddToSums(const PairArgs& args, int head, const int* names, int warp_row,
                                 const RunningRow (&rows)[2], const float (&sums)[N][4]) {
  const Sizes& s = args.sizes;
  const bool finish = args.finish.o != nullptr;
  const int first_column = static_cast<int>(threadIdx.x) % 4 * 2;
  const auto outputs = HeadRows<T>(args.finish.o, s.queries, s, head, s.value_dim);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const RunningRow& row = rows[half];
    const float fading = row.before == -INFINITY ? 0.0F : expf(row.before - row.reference);
    const float exact = tiles::RowReduce(row.exact, AddOf());
    const float low_rank = tiles::RowReduce(row.low_rank, AddOf());
    const int query = names[warp_row + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * half];
    const int64_t at = int64_t{head} * s.queries + query;
    float* const from =
        args.space.sums + (int64_t{head} * s.query_tiles() * kTile + query) * s.value_columns();
    float exact_mass = exact;
    float mass = low_rank;
    if (query >= 0) {
      exact_mass += args.space.exact_mass[at] * fading;
      mass += from[s.value_dim] * fading;
    }
    __syncwarp();  // the row's lanes have read what one of them writes
    if (query < 0) continue;
    if (first_column == 0 && !finish) {
      args.space.reference[at] = row.reference;
      args.space.exact_mass[at] = exact_mass;
      from[s.value_dim] = mass;
    }
    const Normaliser of(row.reference, exact_mass, mass);
    if (first_column == 0 && finish) {
      args.finish.share[at] = of.share();
      args.finish.log_normaliser[at] = of.logarithm();
    }
    float2 before[N];
    tiles::LoadPairs(from, s.value_dim, before);
    const float factor = finish ? of.factor() : 1.0F;
    const bool blind = finish && of.blind();
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const int column = 8 * n + first_column;
      if (column >= s.value_dim) break;
      const float pair[2] = {
          blind ? 0.0F : factor * (before[n].x * fading + sums[n][2 * half]),
          blind ? 0.0F : factor * (before[n].y * fading + sums[n][2 * half + 1])};
      const bool both = column + 1 < s.value_dim;
      if (finish) {
        T* const to = const_cast<T*>(outputs.first) + query * outputs.step + column;
        tiles::StorePair(pair, s.value_dim % 2 == 0, both, to);
      } else {
        tiles::StorePair(pair, both, both, from + column);
      }
    }
  }
}

// Where the pass reads, and how its stages are filled.
template <typename T, int kWidth>
struct Pass {
  __device__ Pass(const Walk& of, Shared<T, kWidth>& memory) : walk(of), shared(memory) {
    const PairArgs& args = of.args;
    const Sizes& s = args.sizes;
    q = HeadRows<T>(args.in.q, s.queries, s, of.head, s.key_dim);
    k = HeadRows<T>(args.in.k, s.keys, s, of.head, s.key_dim);
    v = HeadRows<T>(args.in.v, s.keys, s, of.head, s.value_dim);
    features = {FeatureRows<T>(args.space.phi, s.queries, s, of.head),
                FeatureRows<T>(args.space.psi, s.keys, s, of.head)};
    keys = SideOf(args, nullptr, of.head, true);
  }
  __device__ void CopyOwn() const {
    tiles::CopyRows<kOwn, kWidth>(q, shared.own, 0, shared.q);
    features.CopyOwn(shared.own, shared.features);
  }
  __device__ void CopyOthers(int group) const {
    const int* const names = shared.names[group % kNames];
    const int stage = group % kStages;
    shared.keys[stage].Copy(walk, keys, group, names);
    tiles::CopyRows<kOthers, kWidth>(k, names, 0, shared.k[stage]);
    tiles::CopyRows<kOthers, kWidth>(v, names, 0, shared.v[stage]);
    features.CopyOthers(names, stage, shared.features);
  }
  // The lane's two queries, when their names are there.
  __device__ void LoadOwn(OwnRows& own, RunningRow (&rows)[2]) const {
    const PairArgs& args = walk.args;
    own.Load(walk, SideOf(args, nullptr, walk.head, false), shared.own);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = own.token[half];
      const int64_t at = int64_t{walk.head} * args.sizes.queries + query;
      rows[half].before = query < 0 ? -INFINITY : args.space.reference[at];
      rows[half].reference = rows[half].before;
    }
  }

  const Walk& walk;
  Shared<T, kWidth>& shared;
  tiles::Rows<T> q, k, v;
  FeatureSides<T> features;
  Side keys;
};

// Own rows first ... first + 63 of the block.
template <typename T, int kWidth>
__device__ inline void ForwardRows(const Walk& walk, int first, Shared<T, kWidth>& shared) {
  constexpr int kStride = Shared<T, kWidth>::kStride;
  const Sizes& s = walk.args.sizes;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const Pass<T, kWidth> pass(walk, shared);
  NameOwn(walk, first, shared.own);
  OwnRows own;
  tiles::LeftRows<T, kWidth> left;
  RunningRow rows[2];
  pass.LoadOwn(own, rows);
  float sums[kWidth / 8][4] = {};
  tiles::WalkGroups(
      walk.groups(), [&](int g) { walk.CopyNames(g, shared.names[g % kNames]); },
      [&] { pass.CopyOwn(); }, [&](int g) { pass.CopyOthers(g); },
      [&] { left.Load(shared.q + warp_row * kStride, kStride); },
      [&](int g) {
        const int stage = g % kStages;
        const GroupKinds group = GroupKindsOf<false>(walk, g);
        const Kinds kinds = KindsOf<false>(walk, group, own, shared.keys[stage]);
        float a[kColumns][4] = {};
        float x[kColumns][4] = {};
        if (group.low_rank) {
          pass.features.Multiply(s.features, shared.own, shared.names[g % kNames], stage,
                                 shared.features, shared.further, x);
        }
        if (group.exact) {
          tiles::ProductOfRows(left, shared.k[stage], kStride, a);
          Refer<T>(s.root * s.root, kinds, 0, a, rows[0], sums);
          Refer<T>(s.root * s.root, kinds, 1, a, rows[1], sums);
        }
        Weigh<T>(walk, group, kinds, own, shared.keys[stage], a, x, rows);
        tiles::ProductOfColumns(a, shared.v[stage], kStride, sums);
      });
  AddToSums<T>(walk.args, walk.head, shared.own, warp_row, rows, sums);
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kPairThreads, sizeof(T) == 2 ? 2 : 1)
    ForwardKernel(PairArgs args) {
  extern __shared__ __align__(16) uint8_t memory[];
  auto& shared = *reinterpret_cast<Shared<T, kWidth>*>(memory);
  const Walk walk(args);
  for (int first = 0; first < walk.own_count; first += kOwn) ForwardRows(walk, first, shared);
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
      const int bytes = SharedBytes<Shared<T, kWidth>, T>(s.features);
      return LaunchShared(ForwardKernel<T, kWidth>, grid, kPairThreads, bytes, on.stream, args);
    });
  });
}

}  // namespace weft::kernels::scatterbrain_cuda
