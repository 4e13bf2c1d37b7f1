// The place of attention dropout in a pass, as kernels want it.
#pragma once

#include "kernels/attention/dropout.h"
#include "worker/model/mixers/mixer_place.h"
#include "worker/model/pass.h"

namespace weft::worker {

// Dropout of the mixer's attention weights in this pass: none outside training.
inline kernels::AttentionDropout DropoutIn(const Pass& pass, double probability, int64_t layer) {
  if (!pass.draws.training) return {};
  return {.probability = probability,
          .seed = pass.draws.seed,
          .step = pass.draws.step,
          .layer = layer,
          .first_sequence = pass.draws.first_sequence};
}

}  // namespace weft::worker
