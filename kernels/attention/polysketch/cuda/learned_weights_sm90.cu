// The small kernels around the passes of learned sketches: weights as they are multiplied, and
// gradients of parameters from the blocks' sums.
#include "kernels/attention/polysketch/cuda/learned_sm90.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::sm90 {
namespace {

constexpr int kThreads = 256;

// A warp for each hidden unit; blockIdx.y is the tower.
__global__ void __launch_bounds__(kThreads)
    Weights(int inputs, int sketch, SketchStageWeights weights, uint8_t* towers) {
  const int hidden = HiddenOf(sketch);
  const int unit = static_cast<int>(blockIdx.x * kThreads + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int tower = static_cast<int>(blockIdx.y);
  uint8_t* const to = towers + tower * TowerBytes(inputs, sketch);
  const auto put = [](uint8_t* tile, int row, int column, bf16 value) {
    *reinterpret_cast<bf16*>(tile + hopper::SwizzledOffset(row * 128 + column * 2)) = value;
  };
  float folded[4] = {};  // columns lane, lane + 32, ...
  float bias = 0, sum = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int c = lane + 32 * i;
    if (c >= inputs) continue;
    const float weight = ToFloat(weights.expand[(tower * hidden + unit) * inputs + c]);
    folded[i] = weight * ToFloat(weights.norm_weight[tower * inputs + c]);
    bias += weight * ToFloat(weights.norm_bias[tower * inputs + c]);
    sum += folded[i];
  }
  const float mean = GroupReduce<32>(sum, AddOf()) / static_cast<float>(inputs);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int c = lane + 32 * i;
    if (c >= 64 * TilesOf(inputs)) continue;
    put(to + c / 64 * hopper::TileBytes(hidden), unit, c % 64,
        FromFloat<bf16>(c < inputs ? folded[i] - mean : 0.0F));
  }
  bias = GroupReduce<32>(bias, AddOf());
  uint8_t* const contract = to + ExpandBytes(inputs, sketch);
  for (int row = lane; row < sketch; row += 32) {
    const float weight = ToFloat(weights.contract[(tower * sketch + row) * hidden + unit]);
    put(contract + unit / 64 * hopper::TileBytes(sketch), row, unit % 64,
        FromFloat<bf16>(0.5F * weight));
  }
  if (lane == 0) reinterpret_cast<float*>(contract + ContractBytes(sketch))[unit] = bias;
}

// A thread for each of a block's sums; blockIdx.y is the tower of the call.
__global__ void __launch_bounds__(kThreads) Sums(int inputs, int sketch, SketchSumsParams params) {
  const int part = HiddenPart(inputs, sketch);
  const int hidden = HiddenOf(sketch);
  const int count = BlockSums(inputs, sketch);
  const int tower = params.first_tower + static_cast<int>(blockIdx.y);
  const int index = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (index >= count) return;
  const float* from = params.sums + int64_t{blockIdx.y} * params.blocks * count + index;
  float sum = 0;
#pragma unroll 32  // on their way at a time
  for (int i = 0; i < params.blocks; ++i) sum += from[int64_t{i} * count];
  const int first = tower * hidden + params.part * part;  // unit
  if (index < part * inputs) {
    params.expand[first * inputs + index] = sum;
  } else if (index < part * (inputs + sketch)) {
    const int unit = (index - part * inputs) / sketch + params.part * part;
    const int row = (index - part * inputs) % sketch;
    params.d_contract[(tower * sketch + row) * hidden + unit] += 0.5F * sum;
  } else {
    params.slopes[first + index - part * (inputs + sketch)] = sum;
  }
}

constexpr int kParameterWarps = 32;

// 32 columns a block, a lane each; its warps share the hidden units. blockIdx.y is the tower.
template <int kInputs>
__global__ void __launch_bounds__(32 * kParameterWarps)
    Parameters(int sketch, SketchStageWeights weights, const float* expand, const float* slopes,
               SketchStageGradients gradients) {
  __shared__ float parts[2][kParameterWarps][32];
  constexpr int kUnits = 4;  // that a warp reads at a time
  const int hidden = HiddenOf(sketch);
  const int tower = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int column = static_cast<int>(blockIdx.x) * 32 + lane;
  const float norm_weight = ToFloat(weights.norm_weight[tower * kInputs + column]);
  const float norm_bias = ToFloat(weights.norm_bias[tower * kInputs + column]);
  float d_weight = 0;
  float d_bias = 0;
  for (int first = warp; first < hidden; first += kUnits * kParameterWarps) {
    float sum[kUnits], row_sum[kUnits] = {}, slope[kUnits], weight[kUnits], before[kUnits];
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      const int unit = tower * hidden + first + i * kParameterWarps;
      const int at = unit * kInputs + column;
#pragma unroll
      for (int c = 0; c < kInputs; c += 32) row_sum[i] += expand[unit * kInputs + c + lane];
      sum[i] = expand[at];
      slope[i] = slopes[unit];
      weight[i] = ToFloat(weights.expand[at]);
      before[i] = gradients.expand[at];
    }
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      const int unit = tower * hidden + first + i * kParameterWarps;
      sum[i] -= GroupReduce<32>(row_sum[i], AddOf()) * (1.0F / kInputs);
      gradients.expand[unit * kInputs + column] =
          before[i] + sum[i] * norm_weight + slope[i] * norm_bias;
      d_weight += weight[i] * sum[i];
      d_bias += weight[i] * slope[i];
    }
  }
  parts[0][warp][lane] = d_weight;
  parts[1][warp][lane] = d_bias;
  __syncthreads();
  if (warp > 1) return;
  float sum = 0;
  for (int i = 0; i < kParameterWarps; ++i) sum += parts[warp][i][lane];
  float* const to = warp == 0 ? gradients.norm_weight : gradients.norm_bias;
  to[tower * kInputs + column] += sum;
}

}  // namespace

cudaError_t LaunchSketchWeights(int inputs, int sketch, const SketchStageWeights& weights,
                                uint8_t* towers, cudaStream_t stream) {
  const dim3 grid(HiddenOf(sketch) / (kThreads / 32), 2);
  Weights<<<grid, kThreads, 0, stream>>>(inputs, sketch, weights, towers);
  return cudaGetLastError();
}

cudaError_t LaunchSketchSums(int inputs, int sketch, const SketchSumsParams& params,
                             cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(CeilDiv(BlockSums(inputs, sketch), kThreads));
  const dim3 grid(blocks, params.tower_count);
  Sums<<<grid, kThreads, 0, stream>>>(inputs, sketch, params);
  return cudaGetLastError();
}

cudaError_t LaunchSketchParameters(int inputs, int sketch, const SketchStageWeights& weights,
                                   const float* expand, const float* slopes,
                                   const SketchStageGradients& gradients, cudaStream_t stream) {
  const dim3 grid(inputs / 32, 2);
  const auto kernel = inputs == 128  ? Parameters<128>
                      : inputs == 64 ? Parameters<64>
                                     : Parameters<32>;
  kernel<<<grid, 32 * kParameterWarps, 0, stream>>>(sketch, weights, expand, slopes, gradients);
  return cudaGetLastError();
}

}  // namespace weft::kernels::sm90
