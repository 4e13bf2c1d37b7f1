#include "kernels/attention/polysketch/cuda/learned_sketch_sm90.h"

#include <algorithm>
#include <cmath>

#include "kernels/attention/polysketch/cuda/sketches_cuda.h"
#include "kernels/device/cuda/cuda_carver.h"
#include "kernels/device/cuda/tensor_map.h"

namespace weft::kernels::sm90 {
namespace {

using Bf16 = __nv_bfloat16;

constexpr int64_t kBoundary = 1024;  // where parts of the working space begin

int InputsOf(const LearnedSketchCudaShape& s, int stage) {
  return stage == 0 ? s.inputs : s.sketch;
}

struct Record {
  Record(const LearnedSketchCudaShape& s, uint8_t* memory) {
    CudaCarver carver(memory, kBoundary);
    for (int stage = 0; stage < 2; ++stage) {
      y[stage] = carver.Take<Bf16>(int64_t{2} * s.rows * s.sketch);
      statistics[stage] = reinterpret_cast<float*>(
          carver.TakeBytes((stage == 0 ? 1 : 2) * SketchStatisticsBytes(s.rows)));
    }
    bytes = carver.used();
  }
  Bf16* y[2];  // [2, rows, r]
  float* statistics[2];
  int64_t bytes;
};

// The weights of both stages, prepared.
struct Towers {
  Towers(const LearnedSketchCudaShape& s, CudaCarver& carver) {
    for (int stage = 0; stage < 2; ++stage) {
      of_stage[stage] = carver.TakeBytes(int64_t{2} * TowerBytes(InputsOf(s, stage), s.sketch));
    }
  }
  uint8_t* of_stage[2];
};

struct BackwardSpace {
  BackwardSpace(const LearnedSketchCudaShape& s, CudaCarver& carver) : towers(s, carver) {
    int64_t sums_of_block = 0;
    for (int stage = 0; stage < 2; ++stage) {
      d_y[stage] = carver.Take<Bf16>(int64_t{2} * s.rows * s.sketch);
      sums_of_block = std::max<int64_t>(sums_of_block, BlockSums(InputsOf(s, stage), s.sketch));
    }
    sums = carver.Take<float>(sums_of_block * std::max(s.multiprocessors, 2));
    const int64_t hidden = HiddenOf(s.sketch);
    expand = carver.Take<float>(2 * hidden * std::max(s.inputs, s.sketch));
    slopes = carver.Take<float>(2 * hidden);
  }
  Towers towers;
  Bf16* d_y[2];  // [2, rows, r]
  float* sums;
  float* expand;
  float* slopes;
};

// The passes of one call; after the first error it does nothing.
class Passes {
 public:
  Passes(const LearnedSketchCudaShape& shape, const CudaLaunch& on) : s_(shape), on_(on) {}
  [[nodiscard]] cudaError_t error() const { return error_; }

  void Prepare(int stage, const SketchStageWeights& weights, const Towers& towers) {
    Do([&] {
      return LaunchSketchWeights(InputsOf(s_, stage), s_.sketch, weights, towers.of_stage[stage],
                                 on_.stream);
    });
  }

  // After Prepare of both stages.
  void RunTowers(const Bf16* x, const Towers& towers, const Record& record) {
    for (int stage = 0; stage < 2; ++stage) {
      const int inputs = InputsOf(s_, stage);
      const SketchOutputsParams params{.x = RowsOf(stage, x, record),
                                       .towers = towers.of_stage[stage],
                                       .y = record.y[stage],
                                       .statistics = record.statistics[stage],
                                       .rows = s_.rows,
                                       .own_x = stage == 1,
                                       .epsilon = s_.epsilon};
      Do([&] {
        return LaunchSketchOutputs(inputs, s_.sketch, s_.multiprocessors, params, on_.stream);
      });
    }
  }

  void Features(const Record& record, Bf16* phi) {
    const int64_t count = int64_t{s_.rows} * s_.sketch;
    Do([&] {
      return internal::LaunchBoundedProduct(on_, count, Bound(), record.y[1], record.y[1] + count,
                                            phi);
    });
  }

  // From the gradient of phi to those of both towers' results.
  void FeatureGradients(const Record& record, const Bf16* phi, const Bf16* d_phi, Bf16* d_y) {
    const int64_t count = int64_t{s_.rows} * s_.sketch;
    const Bf16* const a = record.y[1];
    Do([&] {
      return internal::LaunchBoundedProductBackward(on_, count, Bound(), phi, d_phi, a, a + count,
                                                    d_y, d_y + count);
    });
  }

  // d_x [rows, h], or [2, rows, r] where each tower has its own. After Prepare of the stage.
  void BackStage(int stage, const Bf16* x, const Record& record, const SketchStageWeights& weights,
                 bool add, Bf16* d_x, const SketchStageGradients& gradients,
                 const BackwardSpace& space) {
    const int inputs = InputsOf(s_, stage);
    const bool own_x = stage == 1;
    const int parts_of_x = own_x ? 2 : 1;
    SketchGradientsParams params{.x = RowsOf(stage, x, record),
                                 .d_y = Rows(space.d_y[stage], 2, s_.sketch),
                                 .d_x = Rows(d_x, parts_of_x, inputs),
                                 .statistics = record.statistics[stage],
                                 .towers = space.towers.of_stage[stage],
                                 .sums = space.sums,
                                 .rows = s_.rows,
                                 .first_tower = 0,
                                 .tower_count = parts_of_x,
                                 .part = 0,
                                 .own_x = own_x,
                                 .add = add};
    const int parts = HiddenOf(s_.sketch) / HiddenPart(inputs, s_.sketch);
    for (params.part = 0; params.part < parts; ++params.part) {
      for (params.first_tower = 0; params.first_tower < 2;
           params.first_tower += params.tower_count) {
        Gradients(inputs, params, gradients, space);
        params.add = true;
      }
    }
    Do([&] {
      return LaunchSketchParameters(inputs, s_.sketch, weights, space.expand, space.slopes,
                                    gradients, on_.stream);
    });
  }

 private:
  template <typename Launch>
  void Do(const Launch& launch) {
    if (error_ == cudaSuccess) error_ = launch();
  }
  [[nodiscard]] float Bound() const { return std::sqrt(static_cast<float>(s_.sketch)); }

  // [towers, rows, 1, width]
  CUtensorMap Rows(const Bf16* data, int towers, int width) {
    CUtensorMap map = {};
    Do([&] { return MakeTensorMap(data, towers, s_.rows, 1, width, kSketchTileRows, &map); });
    return map;
  }

  // What a stage reads.
  CUtensorMap RowsOf(int stage, const Bf16* x, const Record& record) {
    return stage == 0 ? Rows(x, 1, s_.inputs) : Rows(record.y[0], 2, s_.sketch);
  }

  void Gradients(int inputs, const SketchGradientsParams& params,
                 const SketchStageGradients& gradients, const BackwardSpace& space) {
    Do([&] {
      return LaunchSketchGradients(inputs, s_.sketch, s_.multiprocessors, params, on_.stream);
    });
    const SketchSumsParams sums{.sums = params.sums,
                                .blocks = SketchGradientBlocks(params, s_.multiprocessors),
                                .first_tower = params.first_tower,
                                .tower_count = params.tower_count,
                                .part = params.part,
                                .expand = space.expand,
                                .slopes = space.slopes,
                                .d_contract = gradients.contract};
    Do([&] { return LaunchSketchSums(inputs, s_.sketch, sums, on_.stream); });
  }

  LearnedSketchCudaShape s_;
  const CudaLaunch& on_;
  cudaError_t error_ = cudaSuccess;
};

}  // namespace

int64_t LearnedSketchRecordBytes(const LearnedSketchCudaShape& shape) {
  return Record(shape, nullptr).bytes;
}

int64_t LearnedSketchForwardBytes(const LearnedSketchCudaShape& shape) {
  CudaCarver carver(nullptr, kBoundary);
  const Towers towers(shape, carver);
  return carver.used();
}

cudaError_t LearnedSketchForward(const LearnedSketchForwardArgs& args, const CudaLaunch& on) {
  if (args.shape.rows == 0) return cudaSuccess;
  CudaCarver carver(args.scratch, kBoundary);
  const Towers towers(args.shape, carver);
  const Record record(args.shape, args.record);
  Passes passes(args.shape, on);
  for (int stage = 0; stage < 2; ++stage) passes.Prepare(stage, args.weights[stage], towers);
  passes.RunTowers(args.x, towers, record);
  passes.Features(record, args.phi);
  return passes.error();
}

int64_t LearnedSketchBackwardBytes(const LearnedSketchCudaShape& shape) {
  CudaCarver carver(nullptr, kBoundary);
  const BackwardSpace space(shape, carver);
  return carver.used();
}

cudaError_t LearnedSketchBackward(const LearnedSketchBackwardArgs& args, const CudaLaunch& on) {
  if (args.shape.rows == 0) return cudaSuccess;
  CudaCarver carver(args.scratch, kBoundary);
  const BackwardSpace space(args.shape, carver);
  const Record record(args.shape, args.record);
  Passes passes(args.shape, on);
  for (int stage = 0; stage < 2; ++stage) passes.Prepare(stage, args.weights[stage], space.towers);
  if (!args.recorded) passes.RunTowers(args.x, space.towers, record);
  passes.FeatureGradients(record, args.phi, args.d_phi, space.d_y[1]);
  passes.BackStage(1, args.x, record, args.weights[1], /*add=*/false, space.d_y[0],
                   args.gradients[1], space);
  passes.BackStage(0, args.x, record, args.weights[0], args.add, args.d_x, args.gradients[0],
                   space);
  return passes.error();
}

}  // namespace weft::kernels::sm90
