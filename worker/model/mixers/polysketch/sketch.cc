#include "worker/model/mixers/polysketch/sketch.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace weft::worker {
namespace {

using kernels::Tensor;

// Hidden width of the network over the sketch size, as in the authors' program.
constexpr int64_t kExpansion = 8;

}  // namespace

Sketch::Sketch(const PolysketchMixerConfig& config, const MixerPlace& place, int64_t head_width,
               absl::string_view prefix, ParameterLayout& layout)
    : learned_(HasLearnedSketch(config.mode)),
      random_problem_{.input_dim = head_width,
                      .sketch_dim = config.sketch_size,
                      .degree = config.degree,
                      .scale = config.sketch_scale},
      learned_problem_{.input_dim = head_width,
                       .sketch_dim = config.sketch_size,
                       .hidden_dim = kExpansion * config.sketch_size,
                       .epsilon = place.norm_epsilon} {
  if (learned_) {
    AddNetwork(prefix, layout);
  } else {
    AddMatrices(config, place.layer, prefix, layout);
  }
}

void Sketch::AddMatrices(const PolysketchMixerConfig& config, int64_t layer,
                         absl::string_view prefix, ParameterLayout& layout) {
  const auto draw = [problem = random_problem_, kind = config.sketch_matrices,
                     layer = static_cast<uint32_t>(layer)](uint64_t seed) {
    return kernels::DrawRandomSketch(seed, layer, problem, kind);
  };
  const kernels::RandomSketchProblem& p = random_problem_;
  leaves_ =
      layout.AddConstant(absl::StrCat(prefix, ".leaves"), {p.leaves(), p.sketch_dim, p.input_dim},
                         [draw](uint64_t seed, absl::Span<double> into) {
                           const std::vector<double> values = draw(seed).leaves;
                           std::copy(values.begin(), values.end(), into.begin());
                         });
  if (p.inner() == 0) return;
  inner_ =
      layout.AddConstant(absl::StrCat(prefix, ".inner"), {p.inner(), p.sketch_dim, p.sketch_dim},
                         [draw](uint64_t seed, absl::Span<double> into) {
                           const std::vector<double> values = draw(seed).inner;
                           std::copy(values.begin(), values.end(), into.begin());
                         });
}

// The linear maps begin with variance 1 / inputs whatever scheme the model has: of smaller ones the
// features, which multiply four times, would be nothing beside c0, and so would their gradients.
void Sketch::AddNetwork(absl::string_view prefix, ParameterLayout& layout) {
  const int64_t r = learned_problem_.sketch_dim;
  const int64_t hidden = learned_problem_.hidden_dim;
  int64_t inputs = learned_problem_.input_dim;
  for (size_t stage = 0; stage < stages_.size(); ++stage) {
    const std::string name = absl::StrCat(prefix, ".", stage);
    stages_[stage] = {
        .inputs = inputs,
        .norm_weight = layout.AddNorm(absl::StrCat(name, ".norm.weight"), 2 * inputs),
        .norm_bias = layout.AddNormShift(absl::StrCat(name, ".norm.bias"), 2 * inputs),
        .expand = layout.AddWeight(absl::StrCat(name, ".expand.weight"), {2, hidden, inputs},
                                   LecunInitialisation(inputs)),
        .contract = layout.AddWeight(absl::StrCat(name, ".contract.weight"), {2, r, hidden},
                                     LecunInitialisation(hidden))};
    inputs = r;
  }
}

kernels::LearnedSketchWeights Sketch::Network(const ParameterBlock& block) const {
  kernels::LearnedSketchWeights weights;
  for (size_t i = 0; i < stages_.size(); ++i) {
    const Stage& stage = stages_[i];
    weights[i] = {.norm_weight = block[stage.norm_weight].Reshaped({2, stage.inputs}),
                  .norm_bias = block[stage.norm_bias].Reshaped({2, stage.inputs}),
                  .expand = block[stage.expand],
                  .contract = block[stage.contract]};
  }
  return weights;
}

Tensor Sketch::Inner(const Pass& pass) const {
  return random_problem_.inner() == 0 ? Tensor() : pass.weights[inner_];
}

absl::Status Sketch::Supports(const kernels::Device& device) const {
  return learned_ ? kernels::Supports(device, learned_problem_)
                  : kernels::Supports(device, random_problem_);
}

absl::StatusOr<kernels::LearnedSketchSaved> Sketch::NewSaved(kernels::Device& device,
                                                             int64_t rows) const {
  if (!learned_) return kernels::LearnedSketchSaved{};
  return kernels::NewLearnedSketchSaved(device, learned_problem_, rows);
}

absl::Status Sketch::Forward(const Pass& pass, const Tensor& x, Tensor& phi,
                             kernels::LearnedSketchSaved& saved) const {
  if (learned_) {
    return kernels::LearnedSketchForward(pass.stream, learned_problem_, x, Network(pass.weights),
                                         phi, saved);
  }
  return kernels::RandomSketchForward(pass.stream, random_problem_, x, pass.weights[leaves_],
                                      Inner(pass), phi);
}

absl::Status Sketch::Backward(const Pass& pass, const ParameterBlock& gradients, const Tensor& x,
                              const Tensor& phi, const kernels::LearnedSketchSaved& saved,
                              const Tensor& d_phi, kernels::Accumulate accumulate,
                              Tensor& d_x) const {
  if (learned_) {
    kernels::LearnedSketchWeights d_network = Network(gradients);
    return kernels::LearnedSketchBackward(pass.stream, learned_problem_, x, Network(pass.weights),
                                          phi, saved, d_phi, d_x, accumulate, d_network);
  }
  return kernels::RandomSketchBackward(pass.stream, random_problem_, x, pass.weights[leaves_],
                                       Inner(pass), d_phi, d_x, accumulate);
}

int64_t Sketch::FlopsPerRow() const {
  const int64_t h = learned_problem_.input_dim;
  const int64_t r = learned_problem_.sketch_dim;
  if (!learned_) return 2 * r * (random_problem_.leaves() * h + random_problem_.inner() * r);
  const int64_t hidden = learned_problem_.hidden_dim;
  return 2 * 2 * hidden * (h + r + r + r);  // two towers, two stages of two maps
}

}  // namespace weft::worker
