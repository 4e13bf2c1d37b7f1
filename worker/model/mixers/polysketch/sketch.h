// Sketch: the features of queries and keys in a layer, random or learned, as a part of the model
// with its parameters. One sketch serves queries, keys and all heads.
//
// D head width, r sketch size, p degree.
#pragma once

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/attention/polysketch/learned_sketch.h"
#include "kernels/attention/polysketch/random_sketch.h"
#include "kernels/ops/accumulate.h"
#include "kernels/tensor/tensor.h"
#include "worker/model/mixers/polysketch/polysketch_config.h"
#include "worker/model/parameter_layout.h"
#include "worker/model/pass.h"

namespace weft::worker {

// Immutable; any number of passes may use it at a time.
class Sketch {
 public:
  // Adds to `layout`, for a random sketch, the constants "<prefix>.leaves" and, from degree 8 on,
  // "<prefix>.inner"; for a learned one the network's parameters under "<prefix>.0" and ".1". The
  // mode has a sketch.
  Sketch(const PolysketchMixerConfig& config, const MixerPlace& place, int64_t head_width,
         absl::string_view prefix, ParameterLayout& layout);

  [[nodiscard]] absl::Status Supports(const kernels::Device& device) const;
  // Of so many rows, for the backward pass; a random sketch keeps nothing.
  [[nodiscard]] absl::StatusOr<kernels::LearnedSketchSaved> NewSaved(kernels::Device& device,
                                                                     int64_t rows) const;
  // x [..., D] -> phi [..., r]. saved: made by NewSaved, or empty when no backward pass follows.
  absl::Status Forward(const Pass& pass, const kernels::Tensor& x, kernels::Tensor& phi,
                       kernels::LearnedSketchSaved& saved) const;
  // phi and saved as Forward gave them; d_phi -> d_x, overwritten or added to. Parameter gradients
  // are added.
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients, const kernels::Tensor& x,
                        const kernels::Tensor& phi, const kernels::LearnedSketchSaved& saved,
                        const kernels::Tensor& d_phi, kernels::Accumulate accumulate,
                        kernels::Tensor& d_x) const;

  // Of the matrix products, for one query or key of one head.
  [[nodiscard]] int64_t FlopsPerRow() const;

 private:
  // One stage of the network; parameters of both towers in one tensor each.
  struct Stage {
    int64_t inputs;
    ParameterIndex norm_weight, norm_bias, expand, contract;
  };

  void AddMatrices(const PolysketchMixerConfig& config, int64_t layer, absl::string_view prefix,
                   ParameterLayout& layout);
  void AddNetwork(absl::string_view prefix, ParameterLayout& layout);
  // The network's parameters, or their gradients.
  [[nodiscard]] kernels::LearnedSketchWeights Network(const ParameterBlock& block) const;
  [[nodiscard]] kernels::Tensor Inner(const Pass& pass) const;

  const bool learned_;
  kernels::RandomSketchProblem random_problem_;
  kernels::LearnedSketchProblem learned_problem_;
  ParameterIndex leaves_, inner_;
  std::array<Stage, 2> stages_ = {};
};

}  // namespace weft::worker
