// Persistent products of 256 x 128 tiles. Blocks come in pairs (clusters) whose tiles stand side by
// side: each loads half of the 256 rows of dy for both. Of a block's three
// warpgroups two multiply, 128 rows each, and compute what comes behind the product; in the
// third one warp loads operands, 64 of the inner dimension at a time, and for each multiplying
// group a warp moves its 128 x 128 elements between shared memory and the GPU's. Results are made
// piece by piece while the products of the next tile run; until then products are kept, rounded.
#include "kernels/device/cuda/hopper.cuh"
#include "kernels/device/cuda/launch_shared.cuh"
#include "kernels/device/cuda/tensor_map.h"
#include "kernels/ops/cuda_activations.cuh"
#include "kernels/ops/cuda_column_sums.cuh"
#include "kernels/ops/linear_gelu/gelu_slope_sm90.h"

namespace weft::kernels::internal {
namespace {

using hopper::Rows;

constexpr int kRows = 256;  // of a tile
constexpr int kColumns = 128;
constexpr int kDepth = 64;  // of the inner dimension, of a stage
constexpr int kStages = 3;
constexpr int kGroups = 2;  // warpgroups that multiply
constexpr int kThreads = 128 * (1 + kGroups);
constexpr int kPair = 2;  // blocks of a cluster
constexpr int kSquare = hopper::TileBytes(64);

struct Layout {
  static constexpr int kDyBytes = hopper::TileBytes(kRows);
  static constexpr int kStageBytes = kDyBytes + hopper::TileBytes(kColumns);
  static constexpr int kGroupBytes = 4 * kSquare;  // 128 x 128 elements
  static constexpr int kMoved = kStages * kStageBytes;
  static constexpr int kSums = kMoved + kGroups * kGroupBytes;
  static constexpr int kBarriers = kSums + kGroups * 4 * kColumns * 4;
  static constexpr int kSharedBytes = kBarriers + (2 * kStages + 2 * kGroups) * 8 + 1024;
};

struct Params {
  CUtensorMap dy, w, before, dx;
  int64_t columns;
  int steps;         // of the inner dimension
  int column_pairs;  // tiles side by side, two by two
  int tile_pairs;    // of all rows
  float* partial;
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
struct Block {
  const Params& params;
  uint8_t* shared;
  uint32_t rank;

  [[nodiscard]] __device__ uint64_t* barriers() const {
    return reinterpret_cast<uint64_t*>(shared + Layout::kBarriers);
  }
  [[nodiscard]] __device__ uint64_t* Full(int stage) const { return barriers() + stage; }
  [[nodiscard]] __device__ uint64_t* Empty(int stage) const { return barriers() + kStages + stage; }
  // A group and its mover take turns with the group's squares; these say whose turn has ended.
  // After the mover's they hold `before`, or are free; after the group's, what is to be written.
  [[nodiscard]] __device__ uint64_t* Moved(int group) const {
    return barriers() + 2 * kStages + group;
  }
  [[nodiscard]] __device__ uint64_t* Computed(int group) const {
    return barriers() + 2 * kStages + kGroups + group;
  }
  [[nodiscard]] __device__ uint8_t* Squares(int group) const {
    return shared + Layout::kMoved + group * Layout::kGroupBytes;
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

__device__ void LoadOperands(const Block& block) {
  const Params& params = block.params;
  hopper::RingPlace<kStages> at;
  block.ForPairs([&](int pair) {
    const int row = block.RowOf(pair) + static_cast<int>(block.rank) * (kRows / kPair);
    const int column = block.ColumnOf(pair);
    for (int step = 0; step < params.steps; ++step, at.Advance()) {
      uint8_t* const first = block.shared + at.stage * Layout::kStageBytes;
      uint8_t* const w = first + Layout::kDyBytes;
      uint64_t* const full = block.Full(at.stage);
      hopper::AwaitPhase(block.Empty(at.stage), at.parity ^ 1);
      hopper::ArriveExpecting(full, Layout::kStageBytes);
      LoadBoxForBoth(params.dy, first + block.rank * hopper::TileBytes(kRows / kPair), full,
                     step * kDepth, row);
      hopper::LoadBox(params.w, w, full, column, 0, step * kDepth, 0);
      hopper::LoadBox(params.w, w + kSquare, full, column + 64, 0, step * kDepth, 0);
    }
  });
}

// f(square's place, its first column, its first row) for the four squares of a group's tile.
template <typename F>
__device__ void ForSquares(const Block& block, int group, int pair, const F& f) {
  for (int i = 0; i < 4; ++i) {
    f(block.Squares(group) + i * kSquare, block.ColumnOf(pair) + i % 2 * 64,
      block.RowOf(pair) + group * 128 + i / 2 * 64);
  }
}

// What the group has computed; its squares may then be written again.
__device__ void StoreSquares(const Block& block, const CUtensorMap& map, int group, int pair) {
  ForSquares(block, group, pair, [&](const uint8_t* square, int column, int row) {
    hopper::StoreBox(map, square, column, 0, row, 0);
  });
  hopper::CommitStores();
  hopper::AwaitStoresRead<0>();
}

// `before` comes, and the result goes from its place.
__device__ void Move(const Block& block, int group) {
  uint32_t parity = 0;
  block.ForPairs([&](int pair) {
    uint64_t* const moved = block.Moved(group);
    hopper::ArriveExpecting(moved, Layout::kGroupBytes);
    ForSquares(block, group, pair, [&](uint8_t* square, int column, int row) {
      hopper::LoadBox(block.params.before, square, moved, column, 0, row, 0);
    });
    hopper::AwaitPhase(block.Computed(group), parity);
    StoreSquares(block, block.params.dx, group, pair);
    parity ^= 1;
  });
}

// Of GELU(x) = x s(x), where s(x) = 1 / (1 + e^(-2u)) and u = sqrt(2 / pi) (x + 0.044715 x^3).
__device__ inline float Slope(float x) {
  constexpr float kU = 2 * 0.79788456F;
  constexpr float kCube = 0.044715F;
  const float x2 = x * x;
  const float s = QuickInverse(1.0F + QuickExp2(x * fmaf(x2, -kLog2E * kU * kCube, -kLog2E * kU)));
  return fmaf(x * fmaf(-s, s, s), fmaf(x2, 3 * kU * kCube, kU), s);
}

// Of a tile's result; each is made while the products of a step of the next tile run.
constexpr int kPieces = kColumns / 16;
// Steps of a tile before the first piece: until then its place may not be free.
constexpr int kStepsBeforePieces = 2;
static_assert(kGeluSlopeFewestSteps == kStepsBeforePieces + kPieces);

// A warpgroup that multiplies: 128 rows of the tile, in two halves of 64.
class Group {
 public:
  __device__ Group(const Block& block, int group)
      : block_(block), group_(group), lane_(threadIdx.x % 32), warp_(threadIdx.x / 32 % 4) {}

  // The product of a tile and, with kFinishes, meanwhile the result of the tile before, of which
  // `turn` tiles were before it.
  template <bool kFinishes>
  __device__ void Multiply(int last_pair, uint32_t turn);
  // Keeps the product, rounded.
  __device__ void Keep();
  __device__ void Finish(int pair, uint32_t turn);

 private:
  // Starts the products of a step and waits for those of the step before.
  __device__ void Step(int step);
  // For both blocks of the cluster: their loads go into this block's memory, too.
  __device__ void Release(int stage) const {
    if (threadIdx.x % 128 < kPair) ArriveAt(block_.Empty(stage), threadIdx.x % 128);
  }
  // The mover's turn has ended; see Move...
  __device__ void AwaitMoved(uint32_t turn) const {
    hopper::AwaitPhase(block_.Moved(group_), turn % 2);
  }
  [[nodiscard]] __device__ uint8_t* Square(int half, int piece) const {
    return block_.Squares(group_) + (2 * half + piece / 4) * kSquare;
  }
  [[nodiscard]] __device__ float* sums() const {  // [4 warps, kColumns]
    return reinterpret_cast<float*>(block_.shared + Layout::kSums) + group_ * 4 * kColumns;
  }
  // 16 columns of the result.
  __device__ void MakePiece(int piece);
  __device__ void WriteSums(int piece, const float (&sums)[4]) const;
  __device__ void HandOver() const {
    hopper::FenceForEngines();
    hopper::ArriveTogether(block_.Computed(group_));
  }
  // And adds up the warps' sums.
  __device__ void HandResultOver(int pair) const;

  const Block& block_;
  const int group_, lane_, warp_;
  hopper::RingPlace<kStages> at_;
  int stage_before_ = 0;
  float d_[2][64];
  uint32_t kept_[2][32];  // pairs of d_, rounded
};

__device__ void Group::Step(int step) {
  const hopper::Tiles tiles = hopper::TilesAt(block_.shared) + at_.stage * Layout::kStageBytes;
  const hopper::Tiles first = tiles + group_ * 2 * kSquare;
  const hopper::Tiles w = tiles + Layout::kDyBytes;
  hopper::AwaitPhase(block_.Full(at_.stage), at_.parity);
  hopper::StartProducts();
#pragma unroll
  for (int k = 0; k < kDepth / 16; ++k) {
    const int keep = step > 0 || k > 0 ? 1 : 0;
    const uint64_t w_k = hopper::ColumnsTile(w, k);
    hopper::Multiply<Rows::kAreMN, Rows::kAreK>(d_[0], hopper::RowsTile(first, k), w_k, keep);
    hopper::Multiply<Rows::kAreMN, Rows::kAreK>(d_[1], hopper::RowsTile(first + kSquare, k), w_k,
                                                keep);
  }
  hopper::CommitProducts();
  if (step > 0) {
    hopper::AwaitProducts<1>();
    Release(stage_before_);
  }
  stage_before_ = at_.stage;
  at_.Advance();
}

template <bool kFinishes>
__device__ void Group::Multiply(int last_pair, uint32_t turn) {
  int step = 0;
  if constexpr (kFinishes) {
#pragma unroll
    for (; step < kStepsBeforePieces; ++step) Step(step);
    AwaitMoved(turn);
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      Step(kStepsBeforePieces + piece);
      MakePiece(piece);
    }
    HandResultOver(last_pair);
    step = kStepsBeforePieces + kPieces;
  }
  for (; step < block_.params.steps; ++step) Step(step);
  hopper::AwaitProducts<0>();
  hopper::Settle(d_[0]);
  hopper::Settle(d_[1]);
  Release(stage_before_);
}

__device__ void Group::Keep() {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      kept_[half][i] = hopper::PackPair(d_[half][2 * i], d_[half][2 * i + 1]);
    }
  }
}

__device__ void Group::MakePiece(int piece) {
  float sums[4] = {};  // of columns c, c + 1, c + 8, c + 9 over this thread's rows
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint8_t* const square = Square(half, piece);
    uint32_t values[4];
    hopper::LoadPlain(values, square, piece % 4 * 16);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t product = kept_[half][4 * piece + j];
      float low = hopper::LowOf(product);
      float high = hopper::HighOf(product);
      low *= Slope(hopper::LowOf(values[j]));
      high *= Slope(hopper::HighOf(values[j]));
      sums[j / 2 * 2] += low;
      sums[j / 2 * 2 + 1] += high;
      values[j] = hopper::PackPair(low, high);
    }
    hopper::StorePlain(square, piece % 4 * 16, values);
  }
  WriteSums(piece, sums);
}

// The sums of a warp's 32 rows: of the eight lanes of a column two are left with each.
__device__ void Group::WriteSums(int piece, const float (&sums)[4]) const {
  const auto share = [](bool upper, float low, float high, int distance) {
    return (upper ? high : low) + __shfl_xor_sync(0xFFFFFFFF, upper ? low : high, distance);
  };
  const bool right = (lane_ & 16) != 0;
  const bool odd = (lane_ & 8) != 0;
  float sum = share(odd, share(right, sums[0], sums[2], 16), share(right, sums[1], sums[3], 16), 8);
  sum += __shfl_xor_sync(0xFFFFFFFF, sum, 4);
  const int column = 16 * piece + lane_ / 16 * 8 + lane_ % 4 * 2 + lane_ / 8 % 2;
  if ((lane_ & 4) == 0) this->sums()[warp_ * kColumns + column] = sum;
}

__device__ void Group::HandResultOver(int pair) const {
  HandOver();
  hopper::MeetThreads(1 + group_, 128);
  const int column = static_cast<int>(threadIdx.x) % 128;
  float sum = sums()[column];
#pragma unroll
  for (int warp = 1; warp < 4; ++warp) sum += sums()[warp * kColumns + column];
  const int64_t part = block_.RowOf(pair) / 128 + group_;
  block_.params.partial[part * block_.params.columns + block_.ColumnOf(pair) + column] = sum;
  hopper::MeetThreads(1 + group_, 128);
}

__device__ void Group::Finish(int pair, uint32_t turn) {
  AwaitMoved(turn);
#pragma unroll
  for (int piece = 0; piece < kPieces; ++piece) MakePiece(piece);
  HandResultOver(pair);
}

__global__ void __cluster_dims__(kPair, 1, 1) __launch_bounds__(kThreads, 1)
    GeluSlopeKernel(const __grid_constant__ Params params) {
  extern __shared__ uint8_t raw[];
  const Block block{params, raw + (1024 - hopper::SharedAddress(raw) % 1024) % 1024,
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
      if (warp >= 1 && warp <= kGroups) {
        Move(block, warp - 1);
      }
    }
    __syncwarp();
  } else {
    hopper::GrowRegisters<240>();
    Group group(block, warp / 4 - 1);
    int last_pair = -1;
    uint32_t turn = 0;
    block.ForPairs([&](int pair) {
      if (last_pair < 0) {
        group.template Multiply<false>(last_pair, turn);
      } else {
        group.template Multiply<true>(last_pair, turn++);
      }
      group.Keep();
      last_pair = pair;
    });
    if (last_pair >= 0) group.Finish(last_pair, turn);
  }
  // Nobody leaves while the other may still write to its shared memory.
  MeetCluster();
}

cudaError_t MapOf(const void* data, int64_t rows, int64_t width, int box_rows, CUtensorMap& map) {
  return MakeTensorMap(static_cast<const __nv_bfloat16*>(data), 1, rows, 1, width, box_rows, &map);
}

}  // namespace

cudaError_t LaunchGeluSlopeProduct(const CudaLaunch& on, const GeluSlopeProduct& product) {
  const auto [rows, in, out, dy, w, before, dx, dbias, partial] = product;
  if (rows == 0) return cudaSuccess;
  Params params{};
  params.columns = in;
  params.steps = static_cast<int>(out / kDepth);
  params.column_pairs = static_cast<int>(in / (kPair * kColumns));
  params.tile_pairs = static_cast<int>(CeilDiv(rows, kRows)) * params.column_pairs;
  params.partial = partial;
  cudaError_t error = MapOf(dy, rows, out, kRows / kPair, params.dy);
  if (error == cudaSuccess) error = MapOf(w, out, in, 64, params.w);
  if (error == cudaSuccess) error = MapOf(before, rows, in, 64, params.before);
  if (error == cudaSuccess) error = MapOf(dx, rows, in, 64, params.dx);
  if (error != cudaSuccess) return error;
  const int pairs = std::min(params.tile_pairs, on.multiprocessors / kPair);
  error = LaunchShared(GeluSlopeKernel, dim3(static_cast<unsigned>(pairs * kPair)), kThreads,
                       Layout::kSharedBytes, on.stream, params);
  if (error != cudaSuccess || dbias == nullptr) return error;
  return AddParts(on, GeluSlopeParts(rows), in, partial, dbias);
}

}  // namespace weft::kernels::internal
