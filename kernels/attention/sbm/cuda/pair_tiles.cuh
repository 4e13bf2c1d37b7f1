// What the forward and the backward pass along a graph share on a GPU: a block of threads has 64
// rows of one side ("own") and walks along the rows of the other side that any of them meets, 32 at
// a time, so its work follows the edges as far as blocks of 64 rows share them. Four warps, each
// with 16 own rows. Private to kernels/attention/sbm/cuda.
#pragma once

#include "kernels/attention/cuda/dropout_pairs.cuh"
#include "kernels/attention/cuda/pair_blocks.cuh"
#include "kernels/attention/sbm/cuda/sbm_cuda.h"

namespace weft::kernels::sbm {

using tiles::kColumns;
using tiles::kLn2;
using tiles::kNames;
using tiles::kOthers;
using tiles::kOwn;
using tiles::kPairThreads;
using tiles::kStages;

// A group of others, and which own rows each of them meets. Behind the end of the list: row 0,
// which then meets none.
struct OtherRows {
  alignas(16) uint64_t meets[kOthers];
  int row[kOthers];
};

// Rows 0 ... 63 of the block, -1 beyond the end.
__device__ inline void NameOwnRows(int rows, int* own) {
  const int row = static_cast<int>(blockIdx.x) * kOwn + static_cast<int>(threadIdx.x);
  if (threadIdx.x < kOwn) own[threadIdx.x] = row < rows ? row : -1;
}

// The others of the block's list, of which there are `all` in the head.
struct OthersList {
  __device__ OthersList(const PairLists& lists, int head, int all)
      : blocks(static_cast<int>(gridDim.x)),
        count(lists.counts[int64_t{head} * blocks + blockIdx.x]),
        rows(lists.others + (int64_t{head} * blocks + blockIdx.x) * all),
        words(lists.words + int64_t{head} * all * blocks + blockIdx.x) {}

  [[nodiscard]] __device__ int groups() const { return (count + kOthers - 1) / kOthers; }
  __device__ void CopyNames(int group, OtherRows* to) const {
    const int n = static_cast<int>(threadIdx.x);
    const int at = group * kOthers + n;
    if (n < kOthers) CopyAsync<4>(&to->row[n], rows + min(at, count - 1), at < count);
  }
  // When the names are there.
  __device__ void CopyMeets(int group, OtherRows* to) const {
    const int n = static_cast<int>(threadIdx.x);
    if (n >= kOthers) return;
    CopyAsync<8>(&to->meets[n], words + int64_t{to->row[n]} * blocks, group * kOthers + n < count);
  }

  int blocks, count;
  const int32_t* rows;
  const uint64_t* words;
};

// Which of a lane's pairs are edges: of accumulators d[n][c].
struct Links {
  __device__ explicit Links(const OtherRows& others) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const auto* const words = reinterpret_cast<const uint32_t*>(others.meets);
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const uint32_t rows = words[2 * (8 * n + lane % 4 * 2 + c) + warp / 2];
        bits[n][c] = rows >> (warp % 2 * 16 + lane / 4);
      }
    }
  }
  [[nodiscard]] __device__ bool operator()(int n, int c) const {
    return (bits[n][c % 2] & (c < 2 ? 1U : 1U << 8)) != 0;
  }
  uint32_t bits[kColumns][2];  // bit 0: the lane's first row, bit 8: its second
};

// Whether edges weigh differently from what their logits say.
__device__ inline bool HasFactors(const PairArgs& args) {
  return args.copies != nullptr || args.dropout.on;
}
__device__ inline float CopiesOf(const PairArgs& args, int head, int query, int key) {
  if (args.copies == nullptr) return 1.0F;
  return args.copies[(int64_t{head} * args.sizes.queries + query) * args.copies_step + key];
}
__device__ inline float KeptOf(const PairArgs& args, int head, int query, int key) {
  return DropoutFactor(args.dropout, head, query + args.sizes.keys - args.sizes.queries, key);
}

template <typename T>
__device__ inline tiles::Rows<T> HeadRows(const void* tensor, int n, const Sizes& sizes, int head) {
  return tiles::RowsOfHead(static_cast<const T*>(tensor), n, sizes.heads, head, sizes.dim,
                           tiles::InVectors<T>(tensor, sizes.dim));
}

}  // namespace weft::kernels::sbm
