// Pass: what every call of a model part needs beside its operands: where it runs, with which
// weights, which random draws are its own, and which tokens are padding.
#pragma once

#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/random/philox.h"
#include "kernels/tensor/tensor.h"
#include "worker/model/parameter_layout.h"
#include "worker/model/scratch.h"
#include "worker/model/step_metrics.h"

namespace weft::worker {

// The extents of one pass; activations are allocated for exactly one of these.
struct PassShape {
  int64_t batch = 1;
  int64_t tokens = 1;
};

// Where in the job a pass stands, for the draws of dropout, sampled graphs and hash projections.
// Nothing here knows of ranks, threads or micro-batches, so neither do the draws.
struct DrawPlace {
  uint64_t seed = 0;
  int64_t step = 0;  // of the optimizer, from 0
  int64_t first_sequence =
      0;                  // of row 0, within the optimizer step's whole batch or the held-out part
  bool training = false;  // otherwise dropout is off and sampling draws under kEvaluation

  // The site of row `row` and head `head`; of the whole layer when both are left out.
  [[nodiscard]] kernels::DrawSite Site(kernels::RandomTag tag, int64_t layer, int64_t heads = 1,
                                       int64_t row = 0, int64_t head = 0) const {
    return {.tag = tag,
            .step = static_cast<uint32_t>(step),
            .layer = static_cast<uint32_t>(layer),
            .sample = static_cast<uint32_t>((first_sequence + row) * heads + head)};
  }
};

struct Pass {
  kernels::Stream& stream;
  Scratch& scratch;
  const ParameterBlock& weights;
  DrawPlace draws = {};
  // I32 [B, T]: 0 marks a token that is padding: no token sees it. Absent: there is none. Models
  // take it from their batch.
  kernels::Tensor valid = {};
  // Of token 0 in its sequence: 0 unless a part of the sequence is worked on.
  int64_t first_position = 0;
  // Sequences of the whole optimizer step: what a mean over the batch divides by.
  int64_t step_sequences = 1;
  // Where parts of the model count what they report. Null: nobody wants to know.
  StepMetrics* metrics = nullptr;
};

}  // namespace weft::worker
