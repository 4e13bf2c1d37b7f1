// Learned sketches: features of width r from a small network, trained with the model. Kacham,
// Mirrokni and Zhong 2024, "PolySketchFormer"; the architecture is that of the authors' program.
//
//   phi(x) = sqrt(r) tanh(A(x) o B(x) / sqrt(r))        |phi| < sqrt(r); o multiplies elements
//
// Each tower, A and B, is two stages one after the other, from width n = h to r and from r to r:
//
//   stage(x) = contract gelu(expand LayerNorm(x))       n -> hidden -> r, GELU in its tanh form
//
// Linear maps have no biases. One network serves queries, keys and all heads of a layer. Parameters
// of both towers lie in one tensor, tower A first.
#pragma once

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device/device.h"
#include "kernels/ops/accumulate.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

struct LearnedSketchProblem {
  int64_t input_dim = 0;   // h
  int64_t sketch_dim = 0;  // r
  int64_t hidden_dim = 0;  // 8 r in the authors' program
  double epsilon = 1e-5;   // of the layer norms
};

// The parameters of one stage, or their gradients, with n inputs.
struct SketchStage {
  Tensor norm_weight;  // [2, n]
  Tensor norm_bias;    // [2, n]
  Tensor expand;       // [2, hidden, n]
  Tensor contract;     // [2, r, hidden]
};
using LearnedSketchWeights = std::array<SketchStage, 2>;

// What the forward pass leaves for the backward pass, which else makes it again: on some devices
// the results of the stages, 4 r numbers a row.
struct LearnedSketchSaved {
  Tensor record;  // what the device's kernels keep for themselves; absent where they keep nothing
};

// kInvalidArgument: the problem makes sense on no device. kUnimplemented: not on this device.
absl::Status Supports(const Device& device, const LearnedSketchProblem& problem);

absl::StatusOr<LearnedSketchSaved> NewLearnedSketchSaved(Device& device,
                                                         const LearnedSketchProblem& problem,
                                                         int64_t rows);

// x [..., h] -> phi [..., r].
// saved: made by NewLearnedSketchSaved for these rows, or LearnedSketchSaved{} to keep nothing.
absl::Status LearnedSketchForward(Stream& stream, const LearnedSketchProblem& problem,
                                  const Tensor& x, const LearnedSketchWeights& weights, Tensor& phi,
                                  LearnedSketchSaved& saved);

// phi and saved as the forward pass gave them, d_phi [..., r] -> d_x [..., h], overwritten or added
// to; gradients of weights, of the device's sum type, are added to. Activations are 4 hidden_dim
// numbers a token: they are computed again, some rows at a time, rather than kept.
absl::Status LearnedSketchBackward(Stream& stream, const LearnedSketchProblem& problem,
                                   const Tensor& x, const LearnedSketchWeights& weights,
                                   const Tensor& phi, const LearnedSketchSaved& saved,
                                   const Tensor& d_phi, Tensor& d_x, Accumulate accumulate,
                                   LearnedSketchWeights& gradients);

}  // namespace weft::kernels
