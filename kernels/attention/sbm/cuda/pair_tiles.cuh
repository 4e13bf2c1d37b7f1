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
using tiles::kLog2e;
using tiles::kOthers;
using tiles::kOwn;
using tiles::kPairThreads;

// Of the walk: which others, and which own rows they meet.
struct OtherRows {
  int row[kOthers];  // -1: none
  uint64_t meets[kOthers];
};

// Rows 0 ... 63 of the block, -1 beyond the end.
__device__ inline void NameOwnRows(int rows, int* own) {
  const int row = static_cast<int>(blockIdx.x) * kOwn + static_cast<int>(threadIdx.x);
  if (threadIdx.x < kOwn) own[threadIdx.x] = row < rows ? row : -1;
}

// Others first ... first + 31 of the block's list. The caller synchronises before and after.
__device__ inline void NameOthers(const PairLists& lists, int head, int others, int first,
                                  int count, OtherRows* rows) {
  const int n = static_cast<int>(threadIdx.x);
  if (n >= kOthers) return;
  const int blocks = static_cast<int>(gridDim.x);
  const int64_t block = int64_t{head} * blocks + blockIdx.x;
  const int row = first + n < count ? lists.others[block * others + first + n] : -1;
  rows->row[n] = row;
  rows->meets[n] = row < 0 ? 0 : lists.words[(int64_t{head} * others + row) * blocks + blockIdx.x];
}

__device__ inline float CopiesOf(const PairArgs& args, int head, int query, int key) {
  if (args.copies == nullptr) return 1.0F;
  return args.copies[(int64_t{head} * args.sizes.queries + query) * args.copies_step + key];
}

template <typename T>
__device__ inline tiles::Rows<T> HeadRows(const void* tensor, int n, const Sizes& sizes, int head) {
  return tiles::RowsOfHead(static_cast<const T*>(tensor), n, sizes.heads, head, sizes.dim,
                           tiles::InVectors<T>(tensor, sizes.dim));
}

}  // namespace weft::kernels::sbm
