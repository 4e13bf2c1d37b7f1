// Gradients of one stage for a part of its hidden units. A block has that part's weights in shared
// memory and takes 64 rows at a time; each of its warpgroups has a share of the hidden units, as
// rows of its accumulators, so that gelu's results and gradients are at once the left operands of
// the sums over rows:
//
//   a = W' x^T / deviation + b    dz = contract^T dy^T / 2                       [hidden, rows]
//   z = 2 gelu(a)    da = 2 dz o gelu'(a)    da' = da / deviation
//   sums: z dy [hidden, r]    da' x [hidden, n]    da [hidden]                   in registers
//
// da' goes through shared memory to the warpgroup whose turn it is to compute d_x of these rows,
// from all hidden units, while the others are ahead with the next rows:
//
//   t = da'^T W'    d_x = t - x^ mean(t o x^)                                   [rows, n]
#include "kernels/attention/polysketch/cuda/learned_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

constexpr int kStages = 3;                               // of rows
constexpr int kStatisticsBytes = kSketchStatistics * 4;  // of a stage

template <int kInputs, int kSketch>
struct GradientsLayout {
  static constexpr int kPart = HiddenPart(kInputs, kSketch);
  static constexpr int kGroups = 2;                     // warpgroups that sum
  static constexpr int kBlocks = kPart / 64 / kGroups;  // of 64 hidden units, of a warpgroup
  static constexpr int kSums = kBlocks * (kInputs + kSketch) / 2;  // of a thread, in registers
  // Whether d_x has a warpgroup of its own. More sums leave too few registers for that, and the two
  // take turns.
  static constexpr bool kApart = kSums <= 96;
  static constexpr int kThreads = 128 * (kGroups + (kApart ? 1 : 0));
  static constexpr int kSumRegisters = 192;
  static constexpr int kTurnRegisters = 504 - 2 * kSumRegisters;
  // Rows whose a and dz are in registers at a time: 64 where there is room.
  static constexpr int kStepRows = kSums < 96 || kSums == 128 ? 64 : 32;
  static constexpr int kSteps = kSketchTileRows / kStepRows;
  static constexpr int kUnits = kBlocks * kSteps;  // of a warpgroup's work with 64 rows
  // After which unit of the next rows d_x has its turn. By then the other warpgroup has brought its
  // da'; were it taken before, each would wait for the one that is behind by the time of d_x, and
  // all be as slow as if every one of them computed it.
  static constexpr int kTurn = (kUnits - 1) / 2;
  static constexpr int kBuffers = kApart ? 3 : 2;  // of da'
  static constexpr int kInputTiles = TilesOf(kInputs);
  static constexpr int kContract = kInputTiles * hopper::TileBytes(kPart);
  static constexpr int kRows = kContract + kPart / 64 * hopper::TileBytes(kSketch);
  static constexpr int kOutputs = kInputTiles * kTileBytes;  // d_y of a stage, behind x
  static constexpr int kStageBytes = kOutputs + kTileBytes;
  static constexpr int kSlopes = kRows + kStages * kStageBytes;
  static constexpr int kSlopeBytes = kPart / 64 * kTileBytes;
  static constexpr int kStatistics = kSlopes + kBuffers * kSlopeBytes;
  static constexpr int kBias = kStatistics + kStages * kStatisticsBytes;
  static constexpr int kBarriers = kBias + kPart * 4;
  static constexpr int kBarrierCount = 1 + 2 * kStages + 2 * kBuffers;
  static constexpr int kWork = kBarriers + kBarrierCount * 8;
  static constexpr int kSharedBytes = kWork + 32 + kSharedSlack;
  static_assert(kSharedBytes <= 227 * 1024);
  static_assert(kSlopeBytes >= kOutputs);  // d_x takes the place of da'
};

// Accumulators [64 hidden units, kStepRows].
template <int kInputs, int kSketch>
using Hidden = float[GradientsLayout<kInputs, kSketch>::kStepRows / 2];

// The tower and the rows of a block.
struct BlockWork {
  int tower;
  int batch;   // of x, by tower or not
  int worker;  // of those that share the tower's rows
  int first;   // row
  int step;
  __device__ explicit BlockWork(const SketchGradientsParams& params) {
    const int index = static_cast<int>(blockIdx.x) % params.tower_count;
    tower = params.first_tower + index;
    batch = params.own_x ? tower : 0;
    worker = static_cast<int>(blockIdx.x) / params.tower_count;
    first = worker * kSketchTileRows;
    step = static_cast<int>(gridDim.x) / params.tower_count * kSketchTileRows;
  }
};

template <int kInputs, int kSketch>
struct GradientsShared {
  using Layout = GradientsLayout<kInputs, kSketch>;
  uint8_t* memory;
  __device__ uint64_t* loaded() const {  // the weights
    return reinterpret_cast<uint64_t*>(memory + Layout::kBarriers);
  }
  // Read there again and again, for want of registers.
  __device__ BlockWork* work() const {
    return reinterpret_cast<BlockWork*>(memory + Layout::kWork);
  }
  __device__ uint64_t* full(int stage) const { return loaded() + 1 + stage; }
  __device__ uint64_t* empty(int stage) const { return full(kStages) + stage; }
  __device__ uint64_t* ready(int buffer) const { return empty(kStages) + buffer; }
  __device__ uint64_t* free(int buffer) const { return ready(Layout::kBuffers) + buffer; }
  __device__ uint8_t* rows(int stage) const {
    return memory + Layout::kRows + stage * Layout::kStageBytes;
  }
  // Of the rows of a stage 1 / deviation, and then the means.
  __device__ float* statistics(int stage) const {
    return reinterpret_cast<float*>(memory + Layout::kStatistics + stage * kStatisticsBytes);
  }
  __device__ float* bias() const { return reinterpret_cast<float*>(memory + Layout::kBias); }
  __device__ uint8_t* slopes(int buffer) const {
    return memory + Layout::kSlopes + buffer * Layout::kSlopeBytes;
  }
};

// A warpgroup's sums over the rows of the block.
template <int kInputs, int kSketch>
struct HiddenSums {
  static constexpr int kBlocks = GradientsLayout<kInputs, kSketch>::kBlocks;
  float expand[kBlocks][kInputs / 2] = {};
  float contract[kBlocks][kSketch / 2] = {};
  float slopes[kBlocks][2] = {};
};

template <int kInputs, int kSketch>
__device__ inline void LoadRows(const SketchGradientsParams& params,
                                const GradientsShared<kInputs, kSketch>& shared,
                                const BlockWork& work, int stage, int row) {
  using Layout = GradientsLayout<kInputs, kSketch>;
  uint64_t* const full = shared.full(stage);
  uint8_t* const to = shared.rows(stage);
  hopper::ArriveExpecting(full, Layout::kStageBytes + kStatisticsBytes);
  LoadTiles<64 * Layout::kInputTiles>(params.x, to, full, 0, row, work.batch);
  hopper::LoadBytes(shared.statistics(stage),
                    params.statistics + work.batch * (SketchStatisticsBytes(params.rows) / 4) +
                        row / kSketchTileRows * kSketchStatistics,
                    kStatisticsBytes, full);
  hopper::LoadBox(params.d_y, to + Layout::kOutputs, full, 0, 0, row, work.tower);
}

// One thread: barriers, weights, the first rows.
template <int kInputs, int kSketch>
__device__ inline void Begin(const SketchGradientsParams& params,
                             const GradientsShared<kInputs, kSketch>& shared,
                             const BlockWork& work) {
  using Layout = GradientsLayout<kInputs, kSketch>;
  hopper::InitBarrier(shared.loaded(), 1);
  for (int i = 0; i < kStages; ++i) {
    hopper::InitBarrier(shared.full(i), 1);
    hopper::InitBarrier(shared.empty(i), Layout::kThreads / 32);
  }
  for (int i = 0; i < Layout::kBuffers; ++i) {
    hopper::InitBarrier(shared.ready(i), 4 * Layout::kGroups);
    hopper::InitBarrier(shared.free(i), 1);
  }
  hopper::PublishBarriers();
  const uint8_t* const tower = params.towers + work.tower * TowerBytes(kInputs, kSketch);
  constexpr int kPart = Layout::kPart;
  constexpr int kContractBytes = kPart / 64 * hopper::TileBytes(kSketch);
  hopper::ArriveExpecting(shared.loaded(), Layout::kRows + kPart * 4);
  for (int i = 0; i < Layout::kInputTiles; ++i) {
    hopper::LoadBytes(
        shared.memory + i * hopper::TileBytes(kPart),
        tower + i * hopper::TileBytes(HiddenOf(kSketch)) + params.part * hopper::TileBytes(kPart),
        hopper::TileBytes(kPart), shared.loaded());
  }
  hopper::LoadBytes(shared.memory + Layout::kContract,
                    tower + ExpandBytes(kInputs, kSketch) + params.part * kContractBytes,
                    kContractBytes, shared.loaded());
  hopper::LoadBytes(
      shared.bias(),
      tower + ExpandBytes(kInputs, kSketch) + ContractBytes(kSketch) + params.part * kPart * 4,
      kPart * 4, shared.loaded());
  for (int i = 0; i < kStages; ++i) {
    const int row = work.first + i * work.step;
    if (row < params.rows) LoadRows(params, shared, work, i, row);
  }
}

// Operands: step k of K of x and d_y, whose tiles begin at `rows`.
__device__ inline uint64_t RowsStep(hopper::Tiles tiles, int k) {
  return hopper::RowsTile(tiles + k / 4 * kTileBytes, k % 4);
}

// The same place as something new to the compiler: it would else keep the descriptions of all
// operands of the loop in registers, of which the sums leave too few.
__device__ inline hopper::Tiles Anew(hopper::Tiles tiles) {
  asm volatile("" : "+r"(tiles.at));
  return {__shfl_sync(0xFFFFFFFF, tiles.at, 0)};
}

// W' x^T and dz of 64 hidden units, number `block` of the part, for kStepRows rows from `rows` on.
template <int kInputs, int kSketch>
__device__ inline void HiddenProducts(Hidden<kInputs, kSketch>& a, Hidden<kInputs, kSketch>& d_z,
                                      hopper::Tiles memory, hopper::Tiles rows, int block) {
  using Layout = GradientsLayout<kInputs, kSketch>;
  memory = Anew(memory);
  rows = Anew(rows);
  hopper::StartProducts();
#pragma unroll
  for (int k = 0; k < kInputs / 16; ++k) {
    const hopper::Tiles tile =
        memory + (k / 4 * hopper::TileBytes(Layout::kPart) + block * kTileBytes);
    hopper::Multiply<Rows::kAreMN, Rows::kAreMN>(a, hopper::RowsTile(tile, k % 4),
                                                 RowsStep(rows, k), k > 0);
  }
  const hopper::Tiles contract = memory + (Layout::kContract + block * hopper::TileBytes(kSketch));
#pragma unroll
  for (int k = 0; k < kSketch / 16; ++k) {
    hopper::Multiply<Rows::kAreK, Rows::kAreMN>(
        d_z, hopper::ColumnsTile(contract, k), hopper::RowsTile(rows + Layout::kOutputs, k), k > 0);
  }
  hopper::CommitProducts();
  hopper::AwaitProducts<0>();
  hopper::Settle(a);
  hopper::Settle(d_z);
}

// The same hidden units' and rows' part of the sums; da' to `slopes`, a tile [rows, 64 hidden
// units]. `bias` of these units, `rstd` of these rows. Leaves the products pending.
template <int kInputs, int kSketch>
__device__ inline void StartSums(float (&expand)[kInputs / 2], float (&contract)[kSketch / 2],
                                 float (&slope_sums)[2], const Hidden<kInputs, kSketch>& a,
                                 const Hidden<kInputs, kSketch>& d_z, hopper::Tiles rows,
                                 const float* bias, const float* rstd, uint8_t* slopes) {
  using Layout = GradientsLayout<kInputs, kSketch>;
  constexpr int kSteps = Layout::kStepRows / 16;
  uint32_t z[kSteps][4], d_a[kSteps][4];
  const Place place;
  const float b[2] = {bias[place.row], bias[place.row + 8]};
#pragma unroll
  for (int i = 0; i < 4 * kSteps; ++i) {
    const float2 scale = *reinterpret_cast<const float2*>(rstd + i / 2 * 8 + place.column);
    float low, high;
    const float z_low = TwiceGeluWithSlope(fmaf(scale.x, a[2 * i], b[i % 2]), low);
    const float z_high = TwiceGeluWithSlope(fmaf(scale.y, a[2 * i + 1], b[i % 2]), high);
    low = fmaf(d_z[2 * i], low, d_z[2 * i]);
    high = fmaf(d_z[2 * i + 1], high, d_z[2 * i + 1]);
    z[i / 4][i % 4] = hopper::PackPair(z_low, z_high);
    slope_sums[i % 2] += low + high;
    d_a[i / 4][i % 4] = hopper::PackPair(low * scale.x, high * scale.y);
  }
#pragma unroll
  for (int k = 0; k < kSteps; ++k) hopper::StoreTransposed(slopes, 16 * k, d_a[k]);
  rows = Anew(rows);
  hopper::StartProducts();
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    hopper::Multiply<Rows::kAreK>(contract, z[k], hopper::ColumnsTile(rows + Layout::kOutputs, k));
    hopper::Multiply<Rows::kAreK>(expand, d_a[k], hopper::ColumnsTile(rows, k));
  }
  hopper::CommitProducts();
}

// From t, accumulators [64, n], to d_x in tiles.
template <int kInputs>
__device__ inline void StoreInputGradients(const float (&t)[kInputs / 2], const uint8_t* rows,
                                           const float* statistics, uint8_t* to) {
  float along[2] = {}, sum[2] = {};  // of t o x, of t
#pragma unroll
  for (int k = 0; k < kInputs / 16; ++k) {
    uint32_t x[4];
    hopper::LoadPlain(x, rows + k / 4 * kTileBytes, 16 * (k % 4));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      along[i % 2] = fmaf(t[8 * k + 2 * i], hopper::LowOf(x[i]), along[i % 2]);
      along[i % 2] = fmaf(t[8 * k + 2 * i + 1], hopper::HighOf(x[i]), along[i % 2]);
      sum[i % 2] += t[8 * k + 2 * i] + t[8 * k + 2 * i + 1];
    }
  }
  // x^ is rstd x + shift, d_x then t + scale x + offset.
  float scale[2], offset[2];
  const Place place;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float rstd = statistics[place.row + 8 * i];
    const float shift = -rstd * statistics[kSketchTileRows + place.row + 8 * i];
    const float mean =
        fmaf(rstd, RowQuadSum(along[i]), shift * RowQuadSum(sum[i])) * (1.0F / kInputs);
    scale[i] = -mean * rstd;
    offset[i] = -mean * shift;
  }
#pragma unroll
  for (int k = 0; k < kInputs / 16; ++k) {
    uint32_t x[4];
    hopper::LoadPlain(x, rows + k / 4 * kTileBytes, 16 * (k % 4));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float low = t[8 * k + 2 * i] + offset[i % 2];
      const float high = t[8 * k + 2 * i + 1] + offset[i % 2];
      x[i] = hopper::PackPair(fmaf(scale[i % 2], hopper::LowOf(x[i]), low),
                              fmaf(scale[i % 2], hopper::HighOf(x[i]), high));
    }
    hopper::StorePlain(to + k / 4 * kTileBytes, 16 * (k % 4), x);
  }
}

// One warpgroup: d_x of 64 rows from da' of all hidden units, whose place it takes on its way.
template <int kInputs, int kSketch>
__device__ inline void InputGradients(const SketchGradientsParams& params,
                                      const GradientsShared<kInputs, kSketch>& shared,
                                      const BlockWork& work, hopper::Tiles memory, int stage,
                                      int buffer, int first_row) {
  using Layout = GradientsLayout<kInputs, kSketch>;
  const int group = static_cast<int>(threadIdx.x) / 128;
  uint8_t* const slopes = shared.slopes(buffer);
  memory = Anew(memory);
  const hopper::Tiles d_a = memory + (Layout::kSlopes + buffer * Layout::kSlopeBytes);
  float t[kInputs / 2];
  hopper::StartProducts();
#pragma unroll
  for (int k = 0; k < Layout::kPart / 16; ++k) {
    hopper::Multiply<Rows::kAreMN, Rows::kAreK>(
        t, RowsStep(d_a, k), hopper::ColumnsTile(memory, k, hopper::TileBytes(Layout::kPart)),
        k > 0);
  }
  hopper::CommitProducts();
  hopper::AwaitProducts<0>();
  hopper::Settle(t);
  hopper::MeetThreads(1 + group, 128);  // da' has been read
  StoreInputGradients<kInputs>(t, shared.rows(stage), shared.statistics(stage), slopes);
  hopper::FenceForEngines();
  hopper::MeetThreads(1 + group, 128);
  if (threadIdx.x % 128 != 0) return;
#pragma unroll
  for (int i = 0; i < Layout::kInputTiles; ++i) {
    if (params.add) {
      hopper::AddBox(params.d_x, slopes + i * kTileBytes, 64 * i, 0, first_row, work.batch);
    } else {
      hopper::StoreBox(params.d_x, slopes + i * kTileBytes, 64 * i, 0, first_row, work.batch);
    }
  }
  hopper::CommitStores();
  hopper::AwaitStoresRead<0>();
  hopper::Arrive(shared.free(buffer));
}

template <int kInputs, int kSketch>
__device__ inline void SettleSums(HiddenSums<kInputs, kSketch>& sums) {
#pragma unroll
  for (int i = 0; i < HiddenSums<kInputs, kSketch>::kBlocks; ++i) {
    hopper::Settle(sums.expand[i]);
    hopper::Settle(sums.contract[i]);
  }
}

// The 64 rows number `index` of a block: where they and what belongs to them are.
template <int kInputs, int kSketch>
struct RowsPlace {
  using Layout = GradientsLayout<kInputs, kSketch>;
  int stage;
  uint32_t parity;  // of the stage's barriers
  int buffer;
  uint32_t buffer_parity;
  __device__ explicit RowsPlace(uint32_t index)
      : stage(static_cast<int>(index % kStages)),
        parity(index / kStages % 2),
        buffer(static_cast<int>(index % Layout::kBuffers)),
        buffer_parity(index / Layout::kBuffers % 2) {}
};

// d_x of the rows number `index`; then those that come next to their place.
template <int kInputs, int kSketch>
__device__ inline void TakeTurn(const SketchGradientsParams& params,
                                const GradientsShared<kInputs, kSketch>& shared,
                                const BlockWork& work, hopper::Tiles memory, uint32_t index) {
  const RowsPlace<kInputs, kSketch> place(index);
  const int row = work.first + static_cast<int>(index) * work.step;
  hopper::AwaitPhase(shared.ready(place.buffer), place.buffer_parity);
  InputGradients(params, shared, work, memory, place.stage, place.buffer, row);
  hopper::ArriveTogether(shared.empty(place.stage));
  const int next = row + kStages * work.step;
  if (threadIdx.x % 128 == 0 && next < params.rows) {
    hopper::AwaitPhase(shared.empty(place.stage), place.parity);
    LoadRows(params, shared, work, place.stage, next);
  }
  __syncwarp();
}

// A warpgroup's share of the sums over the rows of the block, and its turns.
template <int kInputs, int kSketch>
__device__ inline void SumRows(const SketchGradientsParams& params,
                               const GradientsShared<kInputs, kSketch>& shared,
                               const BlockWork& work, hopper::Tiles memory, int group,
                               HiddenSums<kInputs, kSketch>& sums) {
  using Layout = GradientsLayout<kInputs, kSketch>;
  const auto takes_turn = [&](uint32_t index) {
    return !Layout::kApart && index % Layout::kGroups == static_cast<uint32_t>(group);
  };
  uint32_t index = 0;
  for (int row = work.first; row < params.rows; row += work.step, ++index) {
    const RowsPlace<kInputs, kSketch> now(index);
    const bool mine = index > 0 && takes_turn(index - 1);
    const hopper::Tiles rows = memory + (Layout::kRows + now.stage * Layout::kStageBytes);
    hopper::AwaitPhase(shared.full(now.stage), now.parity);
    hopper::AwaitPhase(shared.free(now.buffer), now.buffer_parity ^ 1);
#pragma unroll
    for (int i = 0; i < Layout::kUnits; ++i) {
      constexpr int kStepBytes = hopper::TileBytes(Layout::kStepRows);
      const int unit = i / Layout::kSteps;
      const int block = group * Layout::kBlocks + unit;
      const int skip = i % Layout::kSteps * kStepBytes;
      Hidden<kInputs, kSketch> a, d_z;
      HiddenProducts<kInputs, kSketch>(a, d_z, memory, rows + skip, block);
      // The products with the last rows are done as well.
      if (i == 0 && index > 0 && !mine) {
        hopper::ArriveTogether(shared.empty(RowsPlace<kInputs, kSketch>(index - 1).stage));
      }
      StartSums<kInputs, kSketch>(
          sums.expand[unit], sums.contract[unit], sums.slopes[unit], a, d_z, rows + skip,
          shared.bias() + 64 * block,
          shared.statistics(now.stage) + i % Layout::kSteps * Layout::kStepRows,
          shared.slopes(now.buffer) + block * kTileBytes + skip);
      if (i + 1 == Layout::kUnits) {
        hopper::FenceForEngines();
        hopper::ArriveTogether(shared.ready(now.buffer));
      }
      if (!Layout::kApart && i == Layout::kTurn) {
        hopper::AwaitProducts<0>();
        SettleSums(sums);
        if (mine) TakeTurn(params, shared, work, memory, index - 1);
      }
    }
    hopper::AwaitProducts<0>();
    SettleSums(sums);
  }
  if (index > 0 && takes_turn(index - 1)) TakeTurn(params, shared, work, memory, index - 1);
}

template <int kColumns>
__device__ inline void WriteSums(float* to, const float (&d)[kColumns / 2], int first_row) {
  const Place place;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float* const row = to + int64_t{first_row + place.row + 8 * i} * kColumns + place.column;
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      *reinterpret_cast<float2*>(row + 8 * j) = make_float2(d[4 * j + 2 * i], d[4 * j + 2 * i + 1]);
    }
  }
}

// What a warpgroup has summed, to where the block's sums go.
template <int kInputs, int kSketch>
__device__ inline void WriteAll(float* to, int group, const HiddenSums<kInputs, kSketch>& sums) {
  using Layout = GradientsLayout<kInputs, kSketch>;
  constexpr int kPart = Layout::kPart;
  const Place place;
#pragma unroll
  for (int i = 0; i < Layout::kBlocks; ++i) {
    const int unit = 64 * (group * Layout::kBlocks + i);
    WriteSums<kInputs>(to, sums.expand[i], unit);
    WriteSums<kSketch>(to + kPart * kInputs, sums.contract[i], unit);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float slopes = RowQuadSum(sums.slopes[i][j]);
      if (threadIdx.x % 4 == 0) {
        to[kPart * (kInputs + kSketch) + unit + place.row + 8 * j] = slopes;
      }
    }
  }
}

template <int kInputs, int kSketch>
__global__ void __launch_bounds__(GradientsLayout<kInputs, kSketch>::kThreads, 1)
    Gradients(const __grid_constant__ SketchGradientsParams params) {
  using Layout = GradientsLayout<kInputs, kSketch>;
  extern __shared__ uint8_t raw[];
  const GradientsShared<kInputs, kSketch> shared{AlignedShared(raw)};
  const BlockWork& work = *shared.work();
  if (threadIdx.x == 0) {
    *shared.work() = BlockWork(params);
    Begin(params, shared, work);
  }
  __syncthreads();
  const int group = __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 128, 0);  // for Tiles
  const hopper::Tiles memory = hopper::TilesAt(shared.memory);
  hopper::AwaitPhase(shared.loaded(), 0);
  if (Layout::kApart && group == Layout::kGroups) {
    if (Layout::kApart) hopper::ShrinkRegisters<Layout::kTurnRegisters>();
    int row = work.first;
    for (uint32_t index = 0; row < params.rows; row += work.step, ++index) {
      TakeTurn(params, shared, work, memory, index);
    }
  } else {
    if (Layout::kApart) hopper::GrowRegisters<Layout::kSumRegisters>();
    HiddenSums<kInputs, kSketch> sums;
    SumRows(params, shared, work, memory, group, sums);
    const int blocks = static_cast<int>(gridDim.x) / params.tower_count;
    const int64_t place = int64_t{work.tower - params.first_tower} * blocks + work.worker;
    WriteAll(params.sums + place * BlockSums(kInputs, kSketch), group, sums);
  }
}

template <int kInputs, int kSketch>
cudaError_t Launch(int multiprocessors, const SketchGradientsParams& params, cudaStream_t stream) {
  const int blocks = SketchGradientBlocks(params, multiprocessors) * params.tower_count;
  using Layout = GradientsLayout<kInputs, kSketch>;
  return LaunchShared(Gradients<kInputs, kSketch>, dim3(blocks), Layout::kThreads,
                      Layout::kSharedBytes, stream, params);
}

}  // namespace

int SketchGradientBlocks(const SketchGradientsParams& params, int multiprocessors) {
  const int blocks = multiprocessors / params.tower_count;
  return blocks < 1 ? 1 : blocks;
}

cudaError_t LaunchSketchGradients(int inputs, int sketch, int multiprocessors,
                                  const SketchGradientsParams& params, cudaStream_t stream) {
  return LaunchOfStage(inputs, sketch, [&]<int kInputs, int kSketch>() {
    return Launch<kInputs, kSketch>(multiprocessors, params, stream);
  });
}

}  // namespace weft::kernels::sm90
