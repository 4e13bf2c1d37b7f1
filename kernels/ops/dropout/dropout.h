// Dropout of activations: y = x / (1 - p) or 0, each element on its own with probability p of the
// latter. Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from
// overfitting".
//
// Nothing is stored: whether an element is kept follows from the seed and from where it stands in
// the job, so the backward pass draws again (dx is this op applied to dy), and neither threads nor
// the cut of a batch change it. Channel c of the token at position t of sequence s is kept when
// word c % 4 of the draw at (primary t, ordinal site << 20 | c / 4) of sample s reaches p.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

struct DropoutOptions {
  double probability = 0.0;  // in [0, 1)
  uint64_t seed = 0;
  int64_t step = 0;            // of the optimizer, below 2^28
  int64_t layer = 0;           // below 2^12
  int64_t site = 0;            // which dropout of the layer, below 2^12
  int64_t first_sequence = 0;  // number of row 0 in the step's whole batch; all are below 2^20
  int64_t first_position = 0;  // of token 0
};

// x[B,T,C] -> y[B,T,C], C at most 2^22. y may be x itself.
absl::Status Dropout(Stream& stream, const DropoutOptions& options, const Tensor& x, Tensor& y);

}  // namespace weft::kernels
