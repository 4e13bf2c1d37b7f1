// Dropout: activations that are dropped in training, as a part of a model. What is dropped follows
// from the job's seed and from where the activation stands (kernels/ops/dropout), so a backward
// pass, a resumed run and any cut of the batch drop the same.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/tensor/tensor.h"
#include "worker/model/pass.h"

namespace weft::worker {

// The dropouts of one layer. The embedding's is of layer 0. Never renumber: draws rest on it.
enum class DropoutSite : uint8_t { kMixer = 0, kMlpHidden = 1, kMlp = 2, kEmbedding = 3 };

class Dropout {
 public:
  Dropout(double probability, int64_t layer, DropoutSite site)
      : probability_(probability), layer_(layer), site_(site) {}

  [[nodiscard]] bool IsOn(const Pass& pass) const {
    return probability_ > 0.0 && pass.draws.training;
  }
  // x [B, T, C] in place: the forward pass of activations, the backward pass of their gradients.
  // Leaves x alone when it is not on.
  absl::Status Apply(const Pass& pass, kernels::Tensor& x) const;

 private:
  double probability_;
  int64_t layer_;
  DropoutSite site_;
};

}  // namespace weft::worker
