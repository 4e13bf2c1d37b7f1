// One step of AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization") on a
// parameter of any shape.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

struct AdamWOptions {
  double learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;  // 0 for norm weights
  int64_t step = 1;         // 1 for the first step: the t of the bias correction
};

// With g = clip * gradient:
//   m = beta1 * m + (1 - beta1) * g
//   v = beta2 * v + (1 - beta2) * g^2
//   parameter -= learning_rate * (mhat / (sqrt(vhat) + epsilon) + weight_decay * parameter)
// where mhat = m / (1 - beta1^step), vhat = v / (1 - beta2^step). clip[1] comes from ClipFactor.
// All of one shape and of the sum type; no two overlap. `rounded` (absent: not wanted) becomes the
// parameter in the compute type: what a model reads where the two types differ.
absl::Status AdamW(Stream& stream, const AdamWOptions& options, const Tensor& gradient,
                   const Tensor& clip, Tensor& parameter, Tensor& m, Tensor& v, Tensor& rounded);

}  // namespace weft::kernels
