// y = contract gelu(W' x^ + b) of one stage: every other block computes the same tower. A warpgroup
// takes 64 rows at a time into registers and chains the two products by 64 hidden units: while the
// tensor cores form the next 64, it takes gelu of these. W' has no mean to multiply that of a row,
// so x itself is the operand, and what is left of the norm, a factor for each row, comes with b.
#include "kernels/attention/polysketch/cuda/learned_sm90.cuh"

namespace weft::kernels::sm90 {
namespace {

template <int kInputs, int kSketch>
struct OutputsLayout {
  static constexpr int kGroups = kSketch == 32 ? 3 : 2;  // warpgroups
  static constexpr int kThreads = 128 * kGroups;
  static constexpr int kWeights = ExpandBytes(kInputs, kSketch) + ContractBytes(kSketch);
  static constexpr int kRowBytes = TilesOf(kInputs) * kTileBytes;
  static constexpr int kBarriers = kWeights + kGroups * kRowBytes;
  static constexpr int kSharedBytes = kBarriers + (1 + kGroups) * 8 + kSharedSlack;
  static_assert(kSharedBytes <= 227 * 1024);
};

// Products of 64 hidden units, from chunk * 64.
template <int kInputs, int kSketch>
__device__ inline void StartHidden(float (&a)[32], const uint32_t (&x)[kInputs / 16][4],
                                   hopper::Tiles expand, int chunk) {
  hopper::StartProducts();
#pragma unroll
  for (int k = 0; k < kInputs / 16; ++k) {
    const hopper::Tiles tile =
        expand + (k / 4 * hopper::TileBytes(HiddenOf(kSketch)) + chunk * kTileBytes);
    hopper::Multiply<Rows::kAreMN>(a, x[k], hopper::RowsTile(tile, k % 4), k > 0);
  }
  hopper::CommitProducts();
}

// 1 / standard deviation and mean of the two rows of this thread, [64, kInputs] as an operand. One
// reading of the rows: the square of a mean of 1000 deviations would cost a tenth of the variance.
template <int kInputs>
__device__ inline void RowStatistics(float (&rstd)[2], float (&mean)[2],
                                     const uint32_t (&x)[kInputs / 16][4], float epsilon) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float sum = 0;
    float squares = 0;
#pragma unroll
    for (int k = 0; k < kInputs / 8; ++k) {
      const uint32_t pair = x[k / 2][i + 2 * (k % 2)];
      const float low = hopper::LowOf(pair);
      const float high = hopper::HighOf(pair);
      sum += low + high;
      squares = fmaf(low, low, fmaf(high, high, squares));
    }
    mean[i] = RowQuadSum(sum) * (1.0F / kInputs);
    const float variance = RowQuadSum(squares) * (1.0F / kInputs) - mean[i] * mean[i];
    rstd[i] = rsqrtf(fmaxf(variance, 0.0F) + epsilon);
  }
}

// 2 gelu(rstd a + b) of 64 hidden units as operands.
__device__ inline void HiddenOperand(uint32_t (&z)[4][4], const float (&a)[32],
                                     const float (&rstd)[2], const float* bias) {
  const Place place;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float2 b = *reinterpret_cast<const float2*>(bias + 8 * j + place.column);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      z[j / 2][j % 2 * 2 + i] =
          hopper::PackPair(TwiceGelu(fmaf(rstd[i], a[4 * j + 2 * i], b.x)),
                           TwiceGelu(fmaf(rstd[i], a[4 * j + 2 * i + 1], b.y)));
    }
  }
}

template <int kInputs, int kSketch>
__device__ inline void Stage(float (&y)[kSketch / 2], const uint32_t (&x)[kInputs / 16][4],
                             const float (&rstd)[2], hopper::Tiles weights, const float* bias) {
  constexpr int kChunks = HiddenOf(kSketch) / 64;
  const hopper::Tiles contract = weights + ExpandBytes(kInputs, kSketch);
  float a[2][32];
  StartHidden<kInputs, kSketch>(a[0], x, weights, 0);
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    float(&now)[32] = a[chunk % 2];
    if (chunk + 1 < kChunks) {
      StartHidden<kInputs, kSketch>(a[(chunk + 1) % 2], x, weights, chunk + 1);
      hopper::AwaitProducts<1>();
    } else {
      hopper::AwaitProducts<0>();
    }
    hopper::Settle(now);
    uint32_t z[4][4];
    HiddenOperand(z, now, rstd, bias + 64 * chunk);
    const hopper::Tiles tile = contract + chunk * hopper::TileBytes(kSketch);
    hopper::StartProducts();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      hopper::Multiply<Rows::kAreMN>(y, z[k], hopper::RowsTile(tile, k), chunk + k > 0);
    }
    hopper::CommitProducts();
  }
  hopper::AwaitProducts<0>();
  hopper::Settle(y);
}

template <int kSketch>
__device__ inline void StoreRows(const SketchOutputsParams& params, const float (&y)[kSketch / 2],
                                 int tower, int first_row) {
  const Place place;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first_row + place.row + 8 * i;
    if (row >= params.rows) continue;
    __nv_bfloat16* const to = params.y + (int64_t{tower} * params.rows + row) * kSketch;
#pragma unroll
    for (int j = 0; j < kSketch / 8; ++j) {
      *reinterpret_cast<uint32_t*>(to + 8 * j + place.column) =
          hopper::PackPair(y[4 * j + 2 * i], y[4 * j + 2 * i + 1]);
    }
  }
}

// Of the 64 rows of a warpgroup.
__device__ inline void StoreStatistics(const SketchOutputsParams& params, const float (&rstd)[2],
                                       const float (&mean)[2], int tower, int first_row) {
  if (threadIdx.x % 4 != 0) return;
  const Place place;
  float* const to = params.statistics + tower * (SketchStatisticsBytes(params.rows) / 4) +
                    first_row / kSketchTileRows * kSketchStatistics + place.row;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const bool exists = first_row + place.row + 8 * i < params.rows;
    to[8 * i] = exists ? rstd[i] : 0.0F;
    to[kSketchTileRows + 8 * i] = exists ? mean[i] : 0.0F;
  }
}

template <int kInputs, int kSketch>
__global__ void __launch_bounds__(OutputsLayout<kInputs, kSketch>::kThreads, 1)
    Outputs(const __grid_constant__ SketchOutputsParams params) {
  using Layout = OutputsLayout<kInputs, kSketch>;
  extern __shared__ uint8_t raw[];
  uint8_t* const memory = AlignedShared(raw);
  auto* const loaded = reinterpret_cast<uint64_t*>(memory + Layout::kBarriers);
  const int group = static_cast<int>(threadIdx.x) / 128;
  const bool leads = threadIdx.x % 128 == 0;
  const int tower = static_cast<int>(blockIdx.x) % 2;
  const uint8_t* const from = params.towers + tower * TowerBytes(kInputs, kSketch);
  const auto* const bias = reinterpret_cast<const float*>(from + Layout::kWeights);
  if (threadIdx.x == 0) {
    for (int i = 0; i <= Layout::kGroups; ++i) hopper::InitBarrier(loaded + i, 1);
    hopper::PublishBarriers();
    hopper::ArriveExpecting(loaded, Layout::kWeights);
    hopper::LoadBytes(memory, from, Layout::kWeights, loaded);
  }
  __syncthreads();

  uint8_t* const tile = memory + Layout::kWeights + group * Layout::kRowBytes;
  uint64_t* const full = loaded + 1 + group;
  const auto load = [&](int row) {
    hopper::ArriveExpecting(full, Layout::kRowBytes);
    LoadTiles<64 * TilesOf(kInputs)>(params.x, tile, full, 0, row, params.own_x ? tower : 0);
  };
  const int step = static_cast<int>(gridDim.x) / 2 * Layout::kGroups * kSketchTileRows;
  int row = (static_cast<int>(blockIdx.x) / 2 * Layout::kGroups + group) * kSketchTileRows;
  if (leads && row < params.rows) load(row);
  const hopper::Tiles weights = hopper::TilesAt(memory);
  hopper::AwaitPhase(loaded, 0);
  for (uint32_t parity = 0; row < params.rows; row += step, parity ^= 1) {
    uint32_t x[kInputs / 16][4];
    hopper::AwaitPhase(full, parity);
#pragma unroll
    for (int k = 0; k < kInputs / 16; ++k) {
      hopper::LoadPlain(x[k], tile + k / 4 * kTileBytes, 16 * (k % 4));
    }
    float rstd[2], mean[2], y[kSketch / 2];
    RowStatistics<kInputs>(rstd, mean, x, params.epsilon);
    if (params.own_x || tower == 0) StoreStatistics(params, rstd, mean, tower, row);
    // All have read, and have what they read: behind the stores of the last rows, a read that has
    // only been issued can be slower than the copy that overwrites what it reads.
    hopper::FenceForEngines();
    hopper::MeetThreads(1 + group, 128);
    if (leads && row + step < params.rows) load(row + step);
    Stage<kInputs, kSketch>(y, x, rstd, weights, bias);
    StoreRows<kSketch>(params, y, tower, row);
  }
}

template <int kInputs, int kSketch>
cudaError_t Launch(int multiprocessors, const SketchOutputsParams& params, cudaStream_t stream) {
  using Layout = OutputsLayout<kInputs, kSketch>;
  const int blocks = multiprocessors < 2 ? 2 : multiprocessors / 2 * 2;
  return LaunchShared(Outputs<kInputs, kSketch>, dim3(blocks), Layout::kThreads,
                      Layout::kSharedBytes, stream, params);
}

}  // namespace

cudaError_t LaunchSketchOutputs(int inputs, int sketch, int multiprocessors,
                                const SketchOutputsParams& params, cudaStream_t stream) {
  return LaunchOfStage(inputs, sketch, [&]<int kInputs, int kSketch>() {
    return Launch<kInputs, kSketch>(multiprocessors, params, stream);
  });
}

}  // namespace weft::kernels::sm90
