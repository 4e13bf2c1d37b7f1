// What the forward and the backward pass over pairs share on a GPU: which rows a block of threads
// owns, which others it meets, and which of their pairs are seen and exact. Private to
// kernels/attention/scatterbrain/cuda.
#pragma once

#include <cstddef>

#include "kernels/attention/cuda/dropout_pairs.cuh"
#include "kernels/attention/cuda/pair_blocks.cuh"
#include "kernels/attention/scatterbrain/cuda/scatterbrain_cuda.h"

namespace weft::kernels::scatterbrain_cuda {

using tiles::kColumns;
using tiles::kNames;
using tiles::kOthers;
using tiles::kOwn;
using tiles::kPairThreads;
using tiles::kStages;

// What a block owns and meets. blockIdx.x names an own tile, or a bucket, blockIdx.y a head.
struct Walk {
  __device__ explicit Walk(const PairArgs& a)
      : args(a),
        head(static_cast<int>(blockIdx.y)),
        index(static_cast<int>(blockIdx.x)),
        own_rows(a.keys_own ? a.sizes.keys : a.sizes.queries),
        other_rows(a.keys_own ? a.sizes.queries : a.sizes.keys) {
    const Sizes& s = a.sizes;
    switch (a.set) {
      case PairSet::kFilled: {
        own_count = min(kOwn, own_rows - index * kOwn);
        int begin = index;
        int end = index + 1;
        if (!a.keys_own) {
          begin = s.FilledBegin(index);
          end = s.FilledEnd(index);
        } else if (s.support == Support::kWindow) {
          // The tiles of queries that fill this one in: both ends of what they fill grow.
          begin = s.causal ? index : max(0, index * kTile - s.after - kTile + 1) / kTile;
          end = min(s.query_tiles(), (index * kTile + kTile - 1 + s.before) / kTile + 2);
          while (begin < end && s.FilledEnd(begin) <= index) ++begin;
          while (begin < end && s.FilledBegin(end - 1) > index) --end;
        }
        first_other = begin * kTile;
        other_count = max(0, min(end * kTile, other_rows) - first_other);
        break;
      }
      case PairSet::kBuckets: {
        const int64_t row = int64_t{head} * a.rounds + a.round;
        const int32_t* const own_starts =
            (a.keys_own ? a.space.key_starts : a.space.query_starts) + row * (a.buckets + 1);
        const int32_t* const other_starts =
            (a.keys_own ? a.space.query_starts : a.space.key_starts) + row * (a.buckets + 1);
        own_list = (a.keys_own ? a.space.key_lists : a.space.query_lists) + row * own_rows +
                   own_starts[index];
        other_list = (a.keys_own ? a.space.query_lists : a.space.key_lists) + row * other_rows +
                     other_starts[index];
        own_count = own_starts[index + 1] - own_starts[index];
        other_count = other_starts[index + 1] - other_starts[index];
        break;
      }
      case PairSet::kBlocks:
        own_count = min(kOwn, own_rows - index * kOwn);
        other_list = a.groups + a.group_starts[index];
        other_count = kOthers * (a.group_starts[index + 1] - a.group_starts[index]);
        break;
    }
  }

  [[nodiscard]] __device__ int groups() const { return (other_count + kOthers - 1) / kOthers; }
  // Own row n, -1 if there is none.
  [[nodiscard]] __device__ int Own(int n) const {
    if (n >= own_count) return -1;
    return args.set == PairSet::kBuckets ? own_list[n] : index * kOwn + n;
  }
  // Starts to write the rows of a group of others to to[kOthers]: any row where there is none.
  __device__ void CopyNames(int group, int* to) const {
    const int n = static_cast<int>(threadIdx.x);
    if (n >= kOthers) return;
    const int at = min(group * kOthers + n, other_count - 1);
    if (args.set == PairSet::kFilled) {
      to[n] = first_other + at;
    } else if (args.set == PairSet::kBuckets) {
      CopyAsync<4>(&to[n], other_list + at, true);
    } else {
      to[n] = min(other_list[group] * kOthers + n, other_rows - 1);
    }
  }
  // Whether other n of a group, whose name is `row`, is there.
  [[nodiscard]] __device__ bool Exists(int group, int n, int row) const {
    if (args.set == PairSet::kBlocks) return other_list[group] * kOthers + n == row;
    return group * kOthers + n < other_count;
  }

  const PairArgs& args;
  int head, index, own_rows, other_rows;
  int own_count = 0, other_count = 0, first_other = 0;
  const int32_t* own_list = nullptr;
  const int32_t* other_list = nullptr;
};

// Names own rows first ... first + 63 of the block, between barriers.
__device__ inline void NameOwn(const Walk& walk, int first, int* names) {
  __syncthreads();
  const int n = static_cast<int>(threadIdx.x);
  if (n < kOwn) names[n] = walk.Own(first + n);
  __syncthreads();
}

// What belongs to rows of one side. A row that is none, or padding among the keys, has token -1.
struct Side {
  const float* scale;  // query_scale or key_scale
  const float* log_z;  // of queries, backward; else null
  const float* mean;
  const int32_t* valid;  // of keys; null: all
  int blocks;  // of a layout: a query's row in the table of exact blocks, or a key's column
               // in it, is token / block * blocks
};
__device__ inline Side SideOf(const PairArgs& args, const Results* results, int head, bool keys) {
  const Sizes& s = args.sizes;
  const int64_t first = int64_t{head} * (keys ? s.keys : s.queries);
  if (keys) {
    return {args.space.key_scale + first, nullptr, nullptr,
            args.in.valid == nullptr ? nullptr : args.in.valid + int64_t{head / s.heads} * s.keys,
            1};
  }
  return {args.space.query_scale + first,
          results == nullptr ? nullptr : results->log_normaliser + first,
          results == nullptr ? nullptr : args.space.mean + first, nullptr, args.key_blocks};
}

// A group of others in shared memory.
struct OtherRows {
  int token[kOthers];
  int place[kOthers];  // in the table of exact blocks
  float scale[kOthers];
  float log_z[kOthers];
  float mean[kOthers];

  // When the names are there: thread n starts what belongs to other n.
  __device__ void Copy(const Walk& walk, const Side& side, int group, const int* names) {
    const int n = static_cast<int>(threadIdx.x);
    if (n >= kOthers) return;
    const int row = names[n];
    const bool there =
        walk.Exists(group, n, row) && (side.valid == nullptr || side.valid[row] != 0);
    token[n] = there ? row : -1;
    place[n] = row / walk.args.block * side.blocks;
    CopyAsync<4>(&scale[n], side.scale + row, there);
    if (side.log_z == nullptr) return;
    CopyAsync<4>(&log_z[n], side.log_z + row, there);
    CopyAsync<4>(&mean[n], side.mean + row, there);
  }
};

// The two own rows of a lane.
struct OwnRows {
  __device__ void Load(const Walk& walk, const Side& side, const int* names) {
    const int first =
        static_cast<int>(threadIdx.x) / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = names[first + 8 * half];
      const bool there = row >= 0 && (side.valid == nullptr || side.valid[row] != 0);
      token[half] = there ? row : -1;
      place[half] = there ? row / walk.args.block * side.blocks : 0;
      scale[half] = there ? side.scale[row] : 0.0F;
      log_z[half] = there && side.log_z != nullptr ? side.log_z[row] : 0.0F;
      mean[half] = there && side.mean != nullptr ? side.mean[row] : 0.0F;
    }
  }
  int token[2];
  int place[2];
  float scale[2];
  float log_z[2];
  float mean[2];
};

// Of a lane's pairs, of accumulators d[n][c]: which are of this pass, and which of these are exact.
// The others of this pass have their low-rank weights.
struct Kinds {
  [[nodiscard]] __device__ bool Counts(int n, int c) const {
    return (counts >> (4 * n + c) & 1U) != 0;
  }
  [[nodiscard]] __device__ bool Exact(int n, int c) const {
    return (exact >> (4 * n + c) & 1U) != 0;
  }
  uint32_t counts = 0;
  uint32_t exact = 0;
};

__device__ inline int OtherOf(int n, int c) {
  return 8 * n + static_cast<int>(threadIdx.x) % 4 * 2 + c % 2;
}

// Pairs that met in an earlier round count no more.
template <bool kKeysOwn>
__device__ inline void LeaveOutMet(const Walk& walk, const OwnRows& own, const OtherRows& others,
                                   Kinds& kinds) {
  const PairArgs& args = walk.args;
  for (int round = 0; round < args.round; ++round) {
    const int64_t row = int64_t{walk.head} * args.rounds + round;
    const int32_t* const query_ids = args.query_buckets + row * args.sizes.queries;
    const int32_t* const key_ids = args.key_buckets + row * args.sizes.keys;
    const int32_t* const own_ids = kKeysOwn ? key_ids : query_ids;
    const int32_t* const other_ids = kKeysOwn ? query_ids : key_ids;
    const int32_t ids[2] = {own.token[0] < 0 ? -1 : own_ids[own.token[0]],
                            own.token[1] < 0 ? -1 : own_ids[own.token[1]]};
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int token = others.token[OtherOf(n, c)];
        const int32_t id = token < 0 ? -2 : other_ids[token];
        if (id == ids[0]) kinds.counts &= ~(1U << (4 * n + c));
        if (id == ids[1]) kinds.counts &= ~(1U << (4 * n + c + 2));
      }
    }
  }
  kinds.exact = kinds.counts;
}

// Whether own rows lie in one block of the layout, and so do groups: those that are listed are
// exact.
__device__ inline bool OneBlock(const PairArgs& args) { return args.block % kOwn == 0; }

// What kinds of pairs a group may have: the same for all threads of the block.
struct GroupKinds {
  bool exact = true;     // some may be exact
  bool low_rank = true;  // low-rank weights of some may matter
  bool whole = false;    // all count and are exact
};
template <bool kKeysOwn>
__device__ inline GroupKinds GroupKindsOf(const Walk& walk, int group) {
  const PairArgs& args = walk.args;
  const Sizes& s = args.sizes;
  if (args.set == PairSet::kBuckets) return {};
  if (args.set == PairSet::kFilled && s.support != Support::kWindow) return {.exact = false};
  const bool blocks = args.set == PairSet::kBlocks;
  const int first_own = walk.index * kOwn;
  const int first_other =
      blocks ? walk.other_list[group] * kOthers : walk.first_other + group * kOthers;
  const int first_query = kKeysOwn ? first_other : first_own;
  const int last_query = first_query + (kKeysOwn ? kOthers : kOwn) - 1;
  const int first_key = kKeysOwn ? first_own : first_other;
  const int last_key = first_key + (kKeysOwn ? kOwn : kOthers) - 1;
  const bool seen = last_query < s.queries && last_key < s.keys && args.in.valid == nullptr &&
                    (!s.causal || last_key <= first_query);
  if (blocks) return {.whole = OneBlock(args) && seen};
  const bool some = last_key >= first_query - s.before && first_key <= last_query + s.after;
  const bool all =
      first_key >= last_query - s.before && (s.causal || last_key <= first_query + s.after);
  return {some, !all || args.drops_corrections, all && seen};
}

template <bool kKeysOwn>
__device__ inline Kinds KindsOf(const Walk& walk, GroupKinds group, const OwnRows& own,
                                const OtherRows& others) {
  if (group.whole) return {.counts = 0xFFFF, .exact = 0xFFFF};
  const PairArgs& args = walk.args;
  const Sizes& s = args.sizes;
  const bool window = args.set == PairSet::kFilled && s.support == Support::kWindow;
  Kinds kinds;
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int other = others.token[OtherOf(n, c)];
      const int query = kKeysOwn ? other : own.token[c / 2];
      const int key = kKeysOwn ? own.token[c / 2] : other;
      bool counts = query >= 0 && key >= 0 && !(s.causal && key > query);
      bool exact = window && key >= query - s.before && key <= query + s.after;
      if (args.set == PairSet::kBlocks) {
        if (counts && !OneBlock(args)) {
          counts = args.exact[own.place[c / 2] + others.place[OtherOf(n, c)]] != 0;
        }
        exact = counts;
      }
      if (counts) kinds.counts |= 1U << (4 * n + c);
      if (counts && exact) kinds.exact |= 1U << (4 * n + c);
    }
  }
  if (args.set == PairSet::kBuckets) LeaveOutMet<kKeysOwn>(walk, own, others, kinds);
  return kinds;
}

template <typename T>
__device__ inline tiles::Rows<T> HeadRows(const void* tensor, int n, const Sizes& s, int head,
                                          int width) {
  return tiles::RowsOfHead(static_cast<const T*>(tensor), n, s.heads, head, width,
                           tiles::InVectors<T>(tensor, width));
}
// Features of one head, [n, r].
template <typename T>
__device__ inline tiles::Rows<T> FeatureRows(const void* features, int n, const Sizes& s,
                                             int head) {
  const T* const first = static_cast<const T*>(features) + int64_t{head} * n * s.features;
  return {first, s.features, s.features, tiles::InVectors<T>(features, s.features)};
}

// Products of features, in stretches of kFeatures columns. Of bf16 features the first stretch is
// copied with the other rows of a group, further ones when they are needed, into places of their
// own.
inline constexpr int kFeatures = 64;
template <typename T>
struct FeaturePlaces {
  static constexpr int kStride = tiles::StrideOf<T>(kFeatures);
  static constexpr bool kAhead = sizeof(T) == 2;
  alignas(16) T own[kAhead ? kOwn * kStride : 1];
  alignas(16) T others[kAhead ? kStages : 1][kAhead ? kOthers * kStride : 1];
};
template <typename T>
struct FurtherFeatures {
  static constexpr int kStride = tiles::StrideOf<T>(kFeatures);
  alignas(16) T own[kOwn * kStride];
  alignas(16) T others[kOthers * kStride];
};

// Both sides' features.
template <typename T>
struct FeatureSides {
  using Places = FeaturePlaces<T>;

  __device__ void CopyOwn(const int* own_names, Places& places) const {
    if constexpr (Places::kAhead) {
      tiles::CopyRows<kOwn, kFeatures>(own, own_names, 0, places.own);
    }
  }
  __device__ void CopyOthers(const int* names, int stage, Places& places) const {
    if constexpr (Places::kAhead) {
      tiles::CopyRows<kOthers, kFeatures>(others, names, 0, places.others[stage]);
    }
  }
  // products += own features times other features. All threads of the block call it alike.
  __device__ void Multiply(int features, const int* own_names, const int* names, int stage,
                           const Places& places, FurtherFeatures<T>& further,
                           float (&products)[kColumns][4]) const {
    constexpr int kStride = Places::kStride;
    const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
    if constexpr (Places::kAhead) {
      tiles::ProductOfRows(places.own + warp_row * kStride, kStride, places.others[stage], kStride,
                           kFeatures, products);
    }
    for (int begin = Places::kAhead ? kFeatures : 0; begin < features; begin += kFeatures) {
      __syncthreads();
      tiles::CopyRows<kOwn, kFeatures>(own, own_names, begin, further.own);
      tiles::CopyRows<kOthers, kFeatures>(others, names, begin, further.others);
      AwaitCopies();
      __syncthreads();
      tiles::ProductOfRows(further.own + warp_row * kStride, kStride, further.others, kStride,
                           kFeatures, products);
    }
  }

  tiles::Rows<T> own;
  tiles::Rows<T> others;
};

// Bytes of a kernel's shared memory whose last member is `further`, which it may lack.
template <typename S, typename T>
constexpr int SharedBytes(int features) {
  const bool all = features > kFeatures || !FeaturePlaces<T>::kAhead;
  return static_cast<int>(all ? sizeof(S) : offsetof(S, further));
}

// Adds factor times accumulators to rows of fp32, of which `columns` columns count and which lie
// `step` elements apart.
template <int N>
__device__ inline void AddRows(const float (&sums)[N][4], float factor, const int* names,
                               int warp_row, float* first, int step, int columns) {
  const int first_column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = names[warp_row + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * half];
    if (row < 0) continue;
    float* const to = first + int64_t{row} * step;
    if (step % 2 != 0) {
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const int column = 8 * n + first_column;
        if (column < columns) to[column] += factor * sums[n][2 * half];
        if (column + 1 < columns) to[column + 1] += factor * sums[n][2 * half + 1];
      }
      continue;
    }
    float2 before[N];
    tiles::LoadPairs(to, columns, before);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const int column = 8 * n + first_column;
      if (column >= columns) break;
      const float pair[2] = {before[n].x + factor * sums[n][2 * half],
                             before[n].y + factor * sums[n][2 * half + 1]};
      const bool both = column + 1 < columns;
      tiles::StorePair(pair, both, both, to + column);
    }
  }
}

}  // namespace weft::kernels::scatterbrain_cuda
