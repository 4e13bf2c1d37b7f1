// Products d[R, N] = a[R, K] b[N, K]^T + bias[N] on Hopper and what an op computes from d, in one
// kernel, whose results go straight from registers to the GPU's memory. For op code only.
//
// As cuda_product_sm90.cuh, but with tiles of 128 x 256: each multiplying group has 64 rows and all
// columns, so that operands are read less often from shared memory, and nothing but operands lies
// there, four stages of them. Blocks come in pairs (clusters) whose tiles stand one above the
// other: each loads half of b for both. Results are made piece by piece, 32 columns of the group's
// 64 x 256, while the products of the next tile run; until then d is kept, rounded.
//
// A thread of a product holds two neighbouring columns of every eight. The copy engine permutes b's
// rows on their way (MakeInterleavedMap), so that these are eight neighbours in the end: 16 bytes,
// and four threads together 64 bytes of a row.
//
// What is done with a piece is the op's Epilogue:
//   struct Params                            the kernel's parameters for it
//   static MakePiece(params, product, at)    eight columns of a row, to become vector `at` (of 16
//                                            bytes) of results that lie as d does
#pragma once

#include <algorithm>

#include "kernels/device/cuda/hopper_wide.cuh"
#include "kernels/device/cuda/interleaved_map.h"
#include "kernels/device/cuda/launch_shared.cuh"
#include "kernels/device/cuda/vector.cuh"
#include "kernels/ops/cuda_product_sm90.cuh"

namespace weft::kernels::wide_product_sm90 {

using hopper::Rows;
using product_sm90::ArriveAt;
using product_sm90::kDepth;
using product_sm90::MeetCluster;
using product_sm90::RankInCluster;

constexpr int kRows = 128;  // of a tile
constexpr int kColumns = 256;
constexpr int kStages = 4;
constexpr int kGroups = 2;  // warpgroups that multiply
constexpr int kGroupRows = kRows / kGroups;
constexpr int kThreads = 128 * (1 + kGroups);
constexpr int kPair = 2;  // blocks of a cluster
constexpr int kPieceColumns = 32;
constexpr int kPieces = kColumns / kPieceColumns;
constexpr int kFewestSteps = 1 + kPieces;  // of Covers

struct Layout {
  static constexpr int kABytes = hopper::TileBytes(kRows);
  static constexpr int kBBytes = hopper::TileBytes(kColumns);
  static constexpr int kStageBytes = kABytes + kBBytes;
  static constexpr int kBarriers = kStages * kStageBytes;
  static constexpr int kSharedBytes = kBarriers + 2 * kStages * 8 + 1024;
};

struct Product {
  CUtensorMap a, b;
  const uint4* bias;  // may be null
  int rows, columns;
  int steps;                          // of the inner dimension
  int rows_further, columns_further;  // from tile to tile of a block; see After
};

template <typename Epilogue>
struct Params {
  Product product;
  typename Epilogue::Params epilogue;
};

// The first row and column of a pair of tiles.
struct Pair {
  int row, column;
};

// What all threads know: where things lie in shared memory, and the tiles of this block.
struct Block {
  const Product& product;
  uint8_t* shared;
  int rank;

  [[nodiscard]] __device__ uint64_t* Full(int stage) const {
    return reinterpret_cast<uint64_t*>(shared + Layout::kBarriers) + stage;
  }
  [[nodiscard]] __device__ uint64_t* Empty(int stage) const { return Full(kStages + stage); }
  // Columns first, so that the rows of `a` that all blocks read at a time are few.
  [[nodiscard]] __device__ Pair First() const {
    const int index = static_cast<int>(blockIdx.x) / kPair;
    const int side_by_side = product.columns / kColumns;
    return {index / side_by_side * kPair * kRows, index % side_by_side * kColumns};
  }
  [[nodiscard]] __device__ bool Has(Pair pair) const { return pair.row < product.rows; }
  [[nodiscard]] __device__ Pair After(Pair pair) const {
    pair.row += product.rows_further;
    pair.column += product.columns_further;
    if (pair.column >= product.columns) {
      pair.column -= product.columns;
      pair.row += kPair * kRows;
    }
    return pair;
  }
  [[nodiscard]] __device__ int RowOf(Pair pair) const { return pair.row + rank * kRows; }
};

// Rows `row` ... + 127 of b, permuted, to the same place in both blocks.
__device__ inline void LoadInterleavedForBoth(const CUtensorMap& map, void* to, uint64_t* barrier,
                                              int column, int row) {
  constexpr uint16_t kBoth = 3;
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4, %4, %4, %5}], [%2], %6;" ::"r"(
          hopper::SharedAddress(to)),
      "l"(&map), "r"(hopper::SharedAddress(barrier)), "r"(column), "r"(0), "r"(row / 32), "h"(kBoth)
      : "memory");
}

__device__ inline void LoadOperands(const Block& block) {
  hopper::RingPlace<kStages> at;
  for (Pair pair = block.First(); block.Has(pair); pair = block.After(pair)) {
    const int half = pair.column + block.rank * (kColumns / kPair);
    for (int step = 0; step < block.product.steps; ++step, at.Advance()) {
      uint8_t* const a = block.shared + at.stage * Layout::kStageBytes;
      uint8_t* const b = a + Layout::kABytes + block.rank * (Layout::kBBytes / kPair);
      uint64_t* const full = block.Full(at.stage);
      hopper::AwaitPhase(block.Empty(at.stage), at.parity ^ 1);
      hopper::ArriveExpecting(full, Layout::kStageBytes);
      hopper::LoadBox(block.product.a, a, full, step * kDepth, 0, block.RowOf(pair), 0);
      LoadInterleavedForBoth(block.product.b, b, full, step * kDepth, half);
    }
  }
}

// A warpgroup that multiplies: 64 rows of the tile. A thread has two of them, eight apart, and of
// each piece eight columns.
template <typename Epilogue>
class Group {
 public:
  __device__ Group(const Block& block, const typename Epilogue::Params& params, int group)
      : block_(block), params_(params), group_(group) {}

  // All tiles of the block.
  __device__ void Run();

 private:
  // The product of a tile and, with kFinishes, meanwhile the result of the tile before, `last`.
  template <bool kFinishes>
  __device__ void Multiply(Pair pair, Pair last);
  // Starts the products of a step.
  __device__ void Start(int step);
  // Those of the step before are over.
  __device__ void EndStepBefore() {
    hopper::AwaitProducts<1>();
    Release(stages_[1]);
  }
  // For both blocks of the cluster: their loads go into this block's memory, too.
  __device__ void Release(int stage) const {
    if (threadIdx.x % 128 < kPair) ArriveAt(block_.Empty(stage), threadIdx.x % 128);
  }
  [[nodiscard]] __device__ bool IsBiased() const { return block_.product.bias != nullptr; }
  // The bias, which the sums of a tile start from, is fetched while the products before still run.
  __device__ void FetchBias(Pair pair);
  __device__ void StartSums(int piece);
  // Vectors of the first of this thread's rows of a tile, from the matrix's first on, and how many
  // rows there are from this one on.
  struct Place {
    int rows_left;
    int64_t at;
  };
  [[nodiscard]] __device__ Place PlaceOf(Pair pair) const {
    const int thread = static_cast<int>(threadIdx.x) % 128;
    const int row = block_.RowOf(pair) + group_ * kGroupRows + thread / 32 * 16 + thread % 32 / 4;
    return {block_.product.rows - row,
            int64_t{row} * (block_.product.columns / 8) + pair.column / 8 + thread % 4};
  }
  // Of a piece of this thread's row i.
  [[nodiscard]] __device__ int64_t VectorAt(const Place& place, int i, int piece) const {
    return place.at + i * int64_t{block_.product.columns} + piece * (kPieceColumns / 8);
  }
  // What was multiplied, rounded; the sums of the next tile take its place.
  __device__ void KeepAndStart();
  __device__ void MakePiece(int piece) const;

  const Block& block_;
  const typename Epilogue::Params& params_;
  const int group_;
  hopper::RingPlace<kStages> ring_;
  int stages_[2] = {};  // of the last step and of the one before
  Place place_ = {};    // of the tile whose pieces are made
  float d_[128];
  uint32_t kept_[2][32];  // pairs of d_, rounded, by rows
  uint4 bias_[kPieces];
};

template <typename Epilogue>
__device__ void Group<Epilogue>::Start(int step) {
  const hopper::Tiles stage = hopper::TilesAt(block_.shared) + ring_.stage * Layout::kStageBytes;
  const hopper::Tiles a = stage + group_ * hopper::TileBytes(kGroupRows);
  const hopper::Tiles b = stage + Layout::kABytes;
  hopper::AwaitPhase(block_.Full(ring_.stage), ring_.parity);
  hopper::StartProducts();
#pragma unroll
  for (int k = 0; k < kDepth / 16; ++k) {
    const int keep = step > 0 || k > 0 || IsBiased() ? 1 : 0;
    hopper::Multiply<Rows::kAreMN, Rows::kAreMN>(d_, hopper::RowsTile(a, k), hopper::RowsTile(b, k),
                                                 keep);
  }
  hopper::CommitProducts();
  stages_[1] = stages_[0];
  stages_[0] = ring_.stage;
  ring_.Advance();
}

template <typename Epilogue>
template <bool kFinishes>
__device__ void Group<Epilogue>::Multiply(Pair pair, [[maybe_unused]] Pair last) {
  Start(0);
  int step = 1;
  if constexpr (kFinishes) {
    place_ = PlaceOf(last);
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      Start(step++);
      MakePiece(piece);
      EndStepBefore();
    }
  }
  for (; step < block_.product.steps; ++step) {
    Start(step);
    EndStepBefore();
  }
  FetchBias(block_.After(pair));
  hopper::AwaitProducts<0>();
  hopper::Settle(d_);
  Release(stages_[0]);
}

template <typename Epilogue>
__device__ void Group<Epilogue>::FetchBias(Pair pair) {
  if (!IsBiased()) return;
#pragma unroll
  for (int piece = 0; piece < kPieces; ++piece) {
    bias_[piece] =
        __ldg(block_.product.bias + (pair.column + piece * kPieceColumns) / 8 + threadIdx.x % 4);
  }
}

template <typename Epilogue>
__device__ void Group<Epilogue>::StartSums(int piece) {
  if (!IsBiased()) return;
  const uint32_t pairs[] = {bias_[piece].x, bias_[piece].y, bias_[piece].z, bias_[piece].w};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      d_[16 * piece + 4 * j + 2 * i] = hopper::LowOf(pairs[j]);
      d_[16 * piece + 4 * j + 2 * i + 1] = hopper::HighOf(pairs[j]);
    }
  }
}

template <typename Epilogue>
__device__ void Group<Epilogue>::KeepAndStart() {
#pragma unroll
  for (int piece = 0; piece < kPieces; ++piece) {
#pragma unroll
    for (int i = 8 * piece; i < 8 * piece + 8; ++i) {
      kept_[i % 2][i / 2] = hopper::PackPair(d_[2 * i], d_[2 * i + 1]);
    }
    StartSums(piece);
  }
}

template <typename Epilogue>
__device__ void Group<Epilogue>::MakePiece(int piece) const {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (8 * i >= place_.rows_left) continue;
    const uint32_t* const kept = kept_[i] + 4 * piece;
    Epilogue::MakePiece(params_, {kept[0], kept[1], kept[2], kept[3]}, VectorAt(place_, i, piece));
  }
}

template <typename Epilogue>
__device__ void Group<Epilogue>::Run() {
  Pair pair = block_.First();
  if (!block_.Has(pair)) return;
  FetchBias(pair);
#pragma unroll
  for (int piece = 0; piece < kPieces; ++piece) StartSums(piece);
  Multiply<false>(pair, pair);
  while (true) {
    const Pair last = pair;
    pair = block_.After(pair);
    KeepAndStart();
    if (!block_.Has(pair)) {
      place_ = PlaceOf(last);
      break;
    }
    Multiply<true>(pair, last);
  }
#pragma unroll
  for (int piece = 0; piece < kPieces; ++piece) MakePiece(piece);
}

template <typename Epilogue>
__global__ void __cluster_dims__(kPair, 1, 1) __launch_bounds__(kThreads, 1)
    WideProductKernel(const __grid_constant__ Params<Epilogue> params) {
  extern __shared__ uint8_t raw[];
  const Block block{params.product, raw + (1024 - hopper::SharedAddress(raw) % 1024) % 1024,
                    static_cast<int>(RankInCluster())};
  // Uniform, and the compiler knows it.
  const int warp = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32, 0);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      hopper::InitBarrier(block.Full(i), 1);
      hopper::InitBarrier(block.Empty(i), kGroups * kPair);
    }
    hopper::PublishBarriers();
  }
  MeetCluster();
  if (warp < 4) {
    hopper::ShrinkRegisters<24>();
    if (threadIdx.x == 0) LoadOperands(block);
    __syncwarp();
  } else {
    hopper::GrowRegisters<240>();
    Group<Epilogue>(block, params.epilogue, warp / 4 - 1).Run();
  }
  // Nobody leaves while the other may still write to its shared memory.
  MeetCluster();
}

// rows > 0; columns and depth as product_sm90::Covers says with kFewestSteps; bias may be null, all
// is bf16 on 16-byte boundaries.
template <typename Epilogue>
cudaError_t LaunchWideProduct(const CudaLaunch& on, const product_sm90::Operands& operands,
                              const void* bias, const typename Epilogue::Params& epilogue) {
  const auto [rows, columns, depth, a, b] = operands;
  Params<Epilogue> params{};
  Product& product = params.product;
  product.bias = static_cast<const uint4*>(bias);
  product.rows = static_cast<int>(rows);
  product.columns = static_cast<int>(columns);
  product.steps = static_cast<int>(depth / kDepth);
  const int side_by_side = product.columns / kColumns;
  const int all = static_cast<int>(CeilDiv(rows, kPair * kRows)) * side_by_side;
  const int pairs = std::min(all, on.multiprocessors / kPair);
  product.rows_further = pairs / side_by_side * kPair * kRows;
  product.columns_further = pairs % side_by_side * kColumns;
  params.epilogue = epilogue;
  cudaError_t error = product_sm90::MapOf(a, rows, depth, kRows, product.a);
  if (error != cudaSuccess) return error;
  error = MakeInterleavedMap(static_cast<const __nv_bfloat16*>(b), columns, depth, kColumns / kPair,
                             &product.b);
  if (error != cudaSuccess) return error;
  return LaunchShared(WideProductKernel<Epilogue>, dim3(static_cast<unsigned>(pairs * kPair)),
                      kThreads, Layout::kSharedBytes, on.stream, params);
}

}  // namespace weft::kernels::wide_product_sm90
