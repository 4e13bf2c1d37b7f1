// Products d[R, N] = a[R, K] b[K, N] on Hopper and what an op computes from d, in one kernel. For
// op code only.
//
// Persistent, tiles of 256 x 128. Blocks come in pairs (clusters) whose tiles stand side by side:
// each loads half of the 256 rows of `a` for both. Of a block's three warpgroups two multiply, 128
// rows each, and compute what comes behind the product; in the third one warp loads operands, 64 of
// the inner dimension at a time, and for each multiplying group a warp moves elements between
// shared memory and the GPU's. Results are made piece by piece, 16 columns of the group's 128 x
// 128, while the products of the next tile run; until then products are kept, rounded.
//
// What is done with a piece is the op's Epilogue:
//   struct Params                         the kernel's parameters for it
//   int kStepsBefore                      steps of a tile before the first piece of the one before:
//                                         until then its squares may not have been moved
//   int kOwnBytes                         shared memory of a group for the epilogue alone
//   static Square SquareAt(params, i)     what is loaded into square i of a group's tile, and
//                                         stored from it
//   Epilogue(params, squares, own, group) one of each thread of a group
//   MakePiece(piece, product)             computes 16 columns, product[half] of the rows 64 half
//                                         ... + 63 as LoadPlain has them, and writes to the squares
//   EndTile(row, column)                  after a tile's last piece; these are the tile's first, of
//                                         this group. The threads of the group do not meet before.
//
// A group and its mover take turns with the group's four squares of 64 x 64 elements: the mover
// loads them, the group makes its pieces, the mover stores all four.
#pragma once

#include <algorithm>

#include "kernels/device/cuda/hopper.cuh"
#include "kernels/device/cuda/launch_shared.cuh"
#include "kernels/device/cuda/tensor_map.h"
#include "kernels/device/cuda/vector.cuh"
#include "kernels/ops/cuda_product_sm90.h"

namespace weft::kernels::product_sm90 {

using hopper::Rows;

constexpr int kRows = 256;  // of a tile
constexpr int kColumns = 128;
constexpr int kStages = 3;
constexpr int kGroups = 2;  // warpgroups that multiply
constexpr int kThreads = 128 * (1 + kGroups);
constexpr int kPair = 2;  // blocks of a cluster
static_assert(kPair * kColumns == kPairColumns);
constexpr int kSquareBytes = hopper::TileBytes(64);
constexpr int kSquares = 4;  // of a group
constexpr int kPieces = kColumns / 16;

// Of Covers.
template <typename Epilogue>
constexpr int kFewestSteps = kPieces + Epilogue::kStepsBefore;

// 64 x 64 elements, from this row and column of the group's tile on.
struct Square {
  const CUtensorMap* from;
  const CUtensorMap* to;
  int row, column;
};

template <typename Epilogue>
struct Layout {
  static constexpr int kABytes = hopper::TileBytes(kRows);
  static constexpr int kStageBytes = kABytes + hopper::TileBytes(kColumns);
  static constexpr int kGroupBytes = kSquares * kSquareBytes;
  static constexpr int kMoved = kStages * kStageBytes;
  static constexpr int kOwn = kMoved + kGroups * kGroupBytes;
  static constexpr int kBarriers = kOwn + kGroups * Epilogue::kOwnBytes;
  static constexpr int kSharedBytes = kBarriers + (2 * kStages + 2 * kGroups) * 8 + 1024;
};

template <typename Epilogue>
struct Params {
  CUtensorMap a, b;
  int steps;         // of the inner dimension
  int column_pairs;  // tiles side by side, two by two
  int tile_pairs;    // of all rows
  typename Epilogue::Params epilogue;
};

__device__ inline uint32_t RankInCluster() {
  uint32_t rank;
  asm("mov.u32 %0, %cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline void MeetCluster() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
}
// Arrives at the barrier of block `rank` of the cluster that lies where this block's does.
__device__ inline void ArriveAt(uint64_t* barrier, uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}\n" ::"r"(hopper::SharedAddress(barrier)),
      "r"(rank)
      : "memory");
}
// A box to the same place in both blocks of the cluster, counted on the barrier of each.
__device__ inline void LoadBoxForBoth(const CUtensorMap& map, void* to, uint64_t* barrier,
                                      int column, int row) {
  constexpr uint16_t kBoth = 3;
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(
          hopper::SharedAddress(to)),
      "l"(&map), "r"(hopper::SharedAddress(barrier)), "r"(column), "r"(0), "r"(row), "r"(0),
      "h"(kBoth)
      : "memory");
}

// What all threads know: where things lie in shared memory, and the tiles of this block.
template <typename Epilogue>
struct Block {
  using Layout = product_sm90::Layout<Epilogue>;

  const Params<Epilogue>& params;
  uint8_t* shared;
  uint32_t rank;

  [[nodiscard]] __device__ uint64_t* barriers() const {
    return reinterpret_cast<uint64_t*>(shared + Layout::kBarriers);
  }
  [[nodiscard]] __device__ uint64_t* Full(int stage) const { return barriers() + stage; }
  [[nodiscard]] __device__ uint64_t* Empty(int stage) const { return barriers() + kStages + stage; }
  // Whose turn with a group's squares has ended, the mover's or the group's.
  [[nodiscard]] __device__ uint64_t* Moved(int group) const {
    return barriers() + 2 * kStages + group;
  }
  [[nodiscard]] __device__ uint64_t* Computed(int group) const {
    return barriers() + 2 * kStages + kGroups + group;
  }
  [[nodiscard]] __device__ uint8_t* Squares(int group) const {
    return shared + Layout::kMoved + group * Layout::kGroupBytes;
  }
  [[nodiscard]] __device__ uint8_t* Own(int group) const {
    return shared + Layout::kOwn + group * Epilogue::kOwnBytes;
  }
  [[nodiscard]] __device__ int RowOf(int pair) const { return pair / params.column_pairs * kRows; }
  [[nodiscard]] __device__ int ColumnOf(int pair) const {
    return (pair % params.column_pairs * kPair + static_cast<int>(rank)) * kColumns;
  }
  template <typename F>
  __device__ void ForPairs(const F& f) const {
    for (int pair = static_cast<int>(blockIdx.x) / kPair; pair < params.tile_pairs;
         pair += static_cast<int>(gridDim.x) / kPair) {
      f(pair);
    }
  }
};

template <typename Epilogue>
__device__ void LoadOperands(const Block<Epilogue>& block) {
  using Layout = product_sm90::Layout<Epilogue>;
  const Params<Epilogue>& params = block.params;
  hopper::RingPlace<kStages> at;
  block.ForPairs([&](int pair) {
    const int row = block.RowOf(pair) + static_cast<int>(block.rank) * (kRows / kPair);
    const int column = block.ColumnOf(pair);
    for (int step = 0; step < params.steps; ++step, at.Advance()) {
      uint8_t* const first = block.shared + at.stage * Layout::kStageBytes;
      uint8_t* const b = first + Layout::kABytes;
      uint64_t* const full = block.Full(at.stage);
      hopper::AwaitPhase(block.Empty(at.stage), at.parity ^ 1);
      hopper::ArriveExpecting(full, Layout::kStageBytes);
      LoadBoxForBoth(params.a, first + block.rank * hopper::TileBytes(kRows / kPair), full,
                     step * kDepth, row);
      hopper::LoadBox(params.b, b, full, column, 0, step * kDepth, 0);
      hopper::LoadBox(params.b, b + kSquareBytes, full, column + 64, 0, step * kDepth, 0);
    }
  });
}

// f(square's place, what it holds, its first column and row in the matrix) for a group's squares.
template <typename Epilogue, typename F>
__device__ void ForSquares(const Block<Epilogue>& block, int group, int pair, const F& f) {
#pragma unroll
  for (int i = 0; i < kSquares; ++i) {
    const Square square = Epilogue::SquareAt(block.params.epilogue, i);
    f(block.Squares(group) + i * kSquareBytes, square, block.ColumnOf(pair) + square.column,
      block.RowOf(pair) + group * 128 + square.row);
  }
}

// The mover's turns.
template <typename Epilogue>
__device__ void Move(const Block<Epilogue>& block, int group) {
  uint32_t parity = 0;
  block.ForPairs([&](int pair) {
    uint64_t* const moved = block.Moved(group);
    hopper::ArriveExpecting(moved, Layout<Epilogue>::kGroupBytes);
    ForSquares(block, group, pair, [&](uint8_t* at, Square square, int column, int row) {
      hopper::LoadBox(*square.from, at, moved, column, 0, row, 0);
    });
    hopper::AwaitPhase(block.Computed(group), parity);
    ForSquares(block, group, pair, [&](uint8_t* at, Square square, int column, int row) {
      hopper::StoreBox(*square.to, at, column, 0, row, 0);
    });
    hopper::CommitStores();
    hopper::AwaitStoresRead<0>();
    parity ^= 1;
  });
}

// A warpgroup that multiplies: 128 rows of the tile, in two halves of 64.
template <typename Epilogue>
class Group {
 public:
  __device__ Group(const Block<Epilogue>& block, int group)
      : block_(block),
        group_(group),
        epilogue_(block.params.epilogue, block.Squares(group), block.Own(group), group) {}

  // The product of a tile and, with kFinishes, meanwhile the result of the tile before.
  template <bool kFinishes>
  __device__ void Multiply(int last_pair);
  // Keeps the product, rounded.
  __device__ void Keep();
  __device__ void Finish(int pair);

 private:
  using Layout = product_sm90::Layout<Epilogue>;

  // Starts the products of a step and waits for those of the step before.
  __device__ void Step(int step);
  // For both blocks of the cluster: their loads go into this block's memory, too.
  __device__ void Release(int stage) const {
    if (threadIdx.x % 128 < kPair) ArriveAt(block_.Empty(stage), threadIdx.x % 128);
  }
  __device__ void AwaitTurn() {
    hopper::AwaitPhase(block_.Moved(group_), turn_ % 2);
    ++turn_;
  }
  __device__ void MakePiece(int piece);
  __device__ void EndTurn() const {
    hopper::FenceForEngines();
    hopper::ArriveTogether(block_.Computed(group_));
  }
  __device__ void EndTile(int pair) {
    epilogue_.EndTile(block_.RowOf(pair) + group_ * 128, block_.ColumnOf(pair));
  }

  const Block<Epilogue>& block_;
  const int group_;
  Epilogue epilogue_;
  hopper::RingPlace<kStages> at_;
  int stage_before_ = 0;
  uint32_t turn_ = 0;
  float d_[2][64];
  uint32_t kept_[2][32];  // pairs of d_, rounded
};

template <typename Epilogue>
__device__ void Group<Epilogue>::Step(int step) {
  const hopper::Tiles tiles = hopper::TilesAt(block_.shared) + at_.stage * Layout::kStageBytes;
  const hopper::Tiles first = tiles + group_ * 2 * kSquareBytes;
  const hopper::Tiles b = tiles + Layout::kABytes;
  hopper::AwaitPhase(block_.Full(at_.stage), at_.parity);
  hopper::StartProducts();
#pragma unroll
  for (int k = 0; k < kDepth / 16; ++k) {
    const int keep = step > 0 || k > 0 ? 1 : 0;
    const uint64_t b_k = hopper::ColumnsTile(b, k);
    hopper::Multiply<Rows::kAreMN, Rows::kAreK>(d_[0], hopper::RowsTile(first, k), b_k, keep);
    hopper::Multiply<Rows::kAreMN, Rows::kAreK>(d_[1], hopper::RowsTile(first + kSquareBytes, k),
                                                b_k, keep);
  }
  hopper::CommitProducts();
  if (step > 0) {
    hopper::AwaitProducts<1>();
    Release(stage_before_);
  }
  stage_before_ = at_.stage;
  at_.Advance();
}

template <typename Epilogue>
template <bool kFinishes>
__device__ void Group<Epilogue>::Multiply(int last_pair) {
  int step = 0;
  if constexpr (kFinishes) {
#pragma unroll
    for (; step < Epilogue::kStepsBefore; ++step) Step(step);
    AwaitTurn();
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      Step(step++);
      MakePiece(piece);
    }
    EndTurn();
    EndTile(last_pair);
  }
  for (; step < block_.params.steps; ++step) Step(step);
  hopper::AwaitProducts<0>();
  hopper::Settle(d_[0]);
  hopper::Settle(d_[1]);
  Release(stage_before_);
}

template <typename Epilogue>
__device__ void Group<Epilogue>::Keep() {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      kept_[half][i] = hopper::PackPair(d_[half][2 * i], d_[half][2 * i + 1]);
    }
  }
}

template <typename Epilogue>
__device__ void Group<Epilogue>::MakePiece(int piece) {
  uint32_t product[2][4];
#pragma unroll
  for (int i = 0; i < 8; ++i) product[i / 4][i % 4] = kept_[i / 4][4 * piece + i % 4];
  epilogue_.MakePiece(piece, product);
}

template <typename Epilogue>
__device__ void Group<Epilogue>::Finish(int pair) {
  AwaitTurn();
#pragma unroll
  for (int piece = 0; piece < kPieces; ++piece) MakePiece(piece);
  EndTurn();
  EndTile(pair);
}

template <typename Epilogue>
__global__ void __cluster_dims__(kPair, 1, 1) __launch_bounds__(kThreads, 1)
    ProductKernel(const __grid_constant__ Params<Epilogue> params) {
  extern __shared__ uint8_t raw[];
  const Block<Epilogue> block{params, raw + (1024 - hopper::SharedAddress(raw) % 1024) % 1024,
                              RankInCluster()};
  // Uniform, and the compiler knows it.
  const int warp = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 32, 0);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      hopper::InitBarrier(block.Full(i), 1);
      hopper::InitBarrier(block.Empty(i), kGroups * kPair);
    }
    for (int i = 0; i < kGroups; ++i) {
      hopper::InitBarrier(block.Moved(i), 1);
      hopper::InitBarrier(block.Computed(i), 4);
    }
    hopper::PublishBarriers();
  }
  MeetCluster();
  if (warp < 4) {
    hopper::ShrinkRegisters<24>();
    if (threadIdx.x % 32 == 0) {
      if (warp == 0) LoadOperands(block);
      if (warp >= 1 && warp <= kGroups) Move(block, warp - 1);
    }
    __syncwarp();
  } else {
    hopper::GrowRegisters<240>();
    Group<Epilogue> group(block, warp / 4 - 1);
    int last_pair = -1;
    block.ForPairs([&](int pair) {
      if (last_pair < 0) {
        group.template Multiply<false>(last_pair);
      } else {
        group.template Multiply<true>(last_pair);
      }
      group.Keep();
      last_pair = pair;
    });
    if (last_pair >= 0) group.Finish(last_pair);
  }
  // Nobody leaves while the other may still write to its shared memory.
  MeetCluster();
}

// Of a matrix [rows, width], in boxes of `box_rows` x 64; squares have 64.
inline cudaError_t MapOf(const void* data, int64_t rows, int64_t width, int box_rows,
                         CUtensorMap& map) {
  return MakeTensorMap(static_cast<const __nv_bfloat16*>(data), 1, rows, 1, width, box_rows, &map);
}

// bf16, on 16-byte boundaries.
struct Operands {
  int64_t rows = 0, columns = 0, depth = 0;  // R, N, K
  const void* a = nullptr;
  const void* b = nullptr;
};

// rows > 0; columns and depth as Covers says.
template <typename Epilogue>
cudaError_t LaunchProduct(const CudaLaunch& on, const Operands& operands,
                          const typename Epilogue::Params& epilogue) {
  const auto [rows, columns, depth, a, b] = operands;
  Params<Epilogue> params{};
  params.steps = static_cast<int>(depth / kDepth);
  params.column_pairs = static_cast<int>(columns / kPairColumns);
  params.tile_pairs = static_cast<int>(CeilDiv(rows, kRows)) * params.column_pairs;
  params.epilogue = epilogue;
  cudaError_t error = MapOf(a, rows, depth, kRows / kPair, params.a);
  if (error == cudaSuccess) error = MapOf(b, depth, columns, 64, params.b);
  if (error != cudaSuccess) return error;
  const int pairs = std::min(params.tile_pairs, on.multiprocessors / kPair);
  return LaunchShared(ProductKernel<Epilogue>, dim3(static_cast<unsigned>(pairs * kPair)), kThreads,
                      Layout<Epilogue>::kSharedBytes, on.stream, params);
}

}  // namespace weft::kernels::product_sm90
