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

// What the forward pass makes, and the backward pass again.
struct ForwardSpace {
  ForwardSpace(const LearnedSketchCudaShape& s, CudaCarver& carver) {
    for (int stage = 0; stage < 2; ++stage) {
      towers[stage] = carver.TakeBytes(int64_t{2} * TowerBytes(InputsOf(s, stage), s.sketch));
      y[stage] = carver.Take<Bf16>(int64_t{2} * s.rows * s.sketch);
    }
  }
  uint8_t* towers[2];
  Bf16* y[2];  // [2, rows, r]; their gradients in the backward pass
};

struct BackwardSpace {
  BackwardSpace(const LearnedSketchCudaShape& s, CudaCarver& carver) : forward(s, carver) {
    const int64_t widest = std::max(s.inputs, 2 * s.sketch);
    normal = carver.Take<Bf16>(s.rows * widest);
    rstd = carver.Take<float>(int64_t{2} * s.rows);
    int64_t sums_of_block = 0;
    for (int stage = 0; stage < 2; ++stage) {
      sums_of_block = std::max<int64_t>(sums_of_block, BlockSums(InputsOf(s, stage), s.sketch));
    }
    sums = carver.Take<float>(sums_of_block * std::max(s.multiprocessors, 2));
    const int64_t hidden = HiddenOf(s.sketch);
    expand = carver.Take<float>(2 * hidden * std::max(s.inputs, s.sketch));
    slopes = carver.Take<float>(2 * hidden);
  }
  ForwardSpace forward;
  Bf16* normal;  // of the stage at hand: [rows, h], [2, rows, r]
  float* rstd;
  float* sums;
  float* expand;
  float* slopes;
};

// The passes of one call; after the first error it does nothing.
class Passes {
 public:
  Passes(const LearnedSketchCudaShape& shape, const CudaLaunch& on) : s_(shape), on_(on) {}
  [[nodiscard]] cudaError_t error() const { return error_; }

  void RunTowers(const Bf16* x, const SketchStageWeights (&weights)[2], const ForwardSpace& space) {
    for (int stage = 0; stage < 2; ++stage) {
      const int inputs = InputsOf(s_, stage);
      Do([&] {
        return LaunchSketchWeights(inputs, s_.sketch, weights[stage], space.towers[stage],
                                   on_.stream);
      });
      const SketchOutputsParams params{
          .x = Rows(stage == 0 ? x : space.y[0], stage == 0 ? 1 : 2, inputs),
          .towers = space.towers[stage],
          .y = space.y[stage],
          .rows = s_.rows,
          .own_x = stage == 1,
          .epsilon = s_.epsilon};
      Do([&] {
        return LaunchSketchOutputs(inputs, s_.sketch, s_.multiprocessors, params, on_.stream);
      });
    }
  }

  void Features(const ForwardSpace& space, Bf16* phi) {
    const int64_t count = int64_t{s_.rows} * s_.sketch;
    Do([&] {
      return internal::LaunchBoundedProduct(on_, count, Bound(), space.y[1], space.y[1] + count,
                                            phi);
    });
  }

  // From the gradient of phi to those of both towers' results, in their place.
  void FeatureGradients(const ForwardSpace& space, const Bf16* phi, const Bf16* d_phi) {
    const int64_t count = int64_t{s_.rows} * s_.sketch;
    Bf16* const a = space.y[1];
    Bf16* const b = a + count;
    Do([&] {
      return internal::LaunchBoundedProductBackward(on_, count, Bound(), phi, d_phi, a, b, a, b);
    });
  }

  // d_x [rows, h], or [2, rows, r] where each tower has its own.
  void BackStage(int stage, const Bf16* x, const SketchStageWeights& weights, bool add, Bf16* d_x,
                 const SketchStageGradients& gradients, const BackwardSpace& space) {
    const int inputs = InputsOf(s_, stage);
    const bool own_x = stage == 1;
    const int parts_of_x = own_x ? 2 : 1;
    Do([&] {
      return LaunchSketchNorms(int64_t{parts_of_x} * s_.rows, inputs, s_.epsilon, x, space.normal,
                               space.rstd, on_.stream);
    });
    SketchGradientsParams params{.normal = Rows(space.normal, parts_of_x, inputs),
                                 .d_y = Rows(space.forward.y[stage], 2, s_.sketch),
                                 .d_x = Rows(d_x, parts_of_x, inputs),
                                 .rstd = space.rstd,
                                 .towers = space.forward.towers[stage],
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

int64_t LearnedSketchForwardBytes(const LearnedSketchCudaShape& shape) {
  CudaCarver carver(nullptr, kBoundary);
  const ForwardSpace space(shape, carver);
  return carver.used();
}

cudaError_t LearnedSketchForward(const LearnedSketchForwardArgs& args, const CudaLaunch& on) {
  if (args.shape.rows == 0) return cudaSuccess;
  CudaCarver carver(args.scratch, kBoundary);
  const ForwardSpace space(args.shape, carver);
  Passes passes(args.shape, on);
  passes.RunTowers(args.x, args.weights, space);
  passes.Features(space, args.phi);
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
  const ForwardSpace& made = space.forward;
  Passes passes(args.shape, on);
  passes.RunTowers(args.x, args.weights, made);
  passes.FeatureGradients(made, args.phi, args.d_phi);
  // The gradient of what is between the stages takes its place, after its norms.
  passes.BackStage(1, made.y[0], args.weights[1], /*add=*/false, made.y[0], args.gradients[1],
                   space);
  passes.BackStage(0, args.x, args.weights[0], args.add, args.d_x, args.gradients[0], space);
  return passes.error();
}

}  // namespace weft::kernels::sm90
