// What the forward and the backward pass over pairs share on a GPU: which rows a block of threads
// owns, which others it meets, and which of their pairs are seen and exact. Private to
// kernels/attention/scatterbrain/cuda.
#pragma once

#include "kernels/attention/cuda/dropout_pairs.cuh"
#include "kernels/attention/cuda/pair_blocks.cuh"
#include "kernels/attention/scatterbrain/cuda/scatterbrain_cuda.h"

namespace weft::kernels::scatterbrain_cuda {

using tiles::kColumns;
using tiles::kLog2e;
using tiles::kOthers;
using tiles::kOwn;
using tiles::kPairThreads;

// Rows of one side in shared memory: their tokens (-1: none), and what belongs to them.
template <int kCount>
struct SideRows {
  int token[kCount];
  float scale[kCount];  // query_scale or key_scale
  float log_z[kCount];  // of queries, backward
  float mean[kCount];   // of queries, backward
};

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

  [[nodiscard]] __device__ int Own(int n) const {
    if (n >= own_count) return -1;
    return args.set == PairSet::kBuckets ? own_list[n] : index * kOwn + n;
  }
  [[nodiscard]] __device__ int Other(int n) const {
    if (n >= other_count) return -1;
    if (args.set == PairSet::kFilled) return first_other + n;
    if (args.set == PairSet::kBuckets) return other_list[n];
    const int row = other_list[n / kOthers] * kOthers + n % kOthers;
    return row < other_rows ? row : -1;
  }

  const PairArgs& args;
  int head, index, own_rows, other_rows;
  int own_count = 0, other_count = 0, first_other = 0;
  const int32_t* own_list = nullptr;
  const int32_t* other_list = nullptr;
};

// Writes rows first ... first + kCount - 1 of a side. Keys that are padding are no rows.
template <int kCount, typename Name>
__device__ inline void NameRows(const PairArgs& args, int head, bool keys, int first,
                                const Name& name, const Results* results, SideRows<kCount>* rows) {
  const int n = static_cast<int>(threadIdx.x);
  if (n >= kCount) return;
  const Sizes& s = args.sizes;
  int token = name(first + n);
  if (keys && token >= 0 && args.in.valid != nullptr &&
      args.in.valid[int64_t{head / s.heads} * s.keys + token] == 0) {
    token = -1;
  }
  const int64_t at = int64_t{head} * (keys ? s.keys : s.queries) + token;
  rows->token[n] = token;
  rows->scale[n] = token < 0 ? 0.0F : (keys ? args.space.key_scale : args.space.query_scale)[at];
  if (results == nullptr || keys) return;
  rows->log_z[n] = token < 0 ? 0.0F : results->log_normaliser[at];
  rows->mean[n] = token < 0 ? 0.0F : args.space.mean[at];
}

// Whether the pair is one of this pass: seen, and exact unless the pass fills in all that is seen.
struct Kind {
  bool counts;
  bool exact;
};
__device__ inline Kind KindOf(const PairArgs& args, int head, int query, int key) {
  const Sizes& s = args.sizes;
  if (query < 0 || key < 0 || (s.causal && key > query)) return {false, false};
  switch (args.set) {
    case PairSet::kFilled: {
      const bool exact =
          s.support == Support::kWindow && key >= query - s.before && key <= query + s.after;
      return {true, exact};
    }
    case PairSet::kBuckets: {
      // Exact already where they met in an earlier round.
      for (int round = 0; round < args.round; ++round) {
        const int64_t row = int64_t{head} * args.rounds + round;
        const int32_t id = args.query_buckets[row * s.queries + query];
        if (id >= 0 && id == args.key_buckets[row * s.keys + key]) return {false, false};
      }
      return {true, true};
    }
    case PairSet::kBlocks: {
      const int64_t tile = int64_t{query / args.block} * args.key_blocks + key / args.block;
      return {args.exact[tile] != 0, true};
    }
  }
  return {false, false};
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

// products += own features times other features, in stretches of kFeatures columns that are loaded
// into the two places. All threads call it; it begins and ends with a barrier.
inline constexpr int kFeatures = 64;
template <typename T>
__device__ inline void FeatureProducts(const Sizes& s, const tiles::Rows<T>& own,
                                       const tiles::Rows<T>& others, const int* own_tokens,
                                       const int* other_tokens, T* own_place, T* other_place,
                                       float (&products)[kColumns][4]) {
  constexpr int kStride = tiles::StrideOf<T>(kFeatures);
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  for (int begin = 0; begin < s.features; begin += kFeatures) {
    __syncthreads();
    tiles::LoadRows<kPairThreads>(own, own_tokens, kOwn, begin, kFeatures, own_place, kStride);
    tiles::LoadRows<kPairThreads>(others, other_tokens, kOthers, begin, kFeatures, other_place,
                                  kStride);
    __syncthreads();
    tiles::ProductOfRows(own_place + warp_row * kStride, kStride, other_place, kStride, kFeatures,
                         products);
  }
  __syncthreads();
}

}  // namespace weft::kernels::scatterbrain_cuda
