#include "worker/model/dropout.h"

#include "kernels/ops/dropout/dropout.h"

namespace weft::worker {

absl::Status Dropout::Apply(const Pass& pass, kernels::Tensor& x) const {
  if (!IsOn(pass)) return absl::OkStatus();
  return kernels::Dropout(pass.stream,
                          {.probability = probability_,
                           .seed = pass.draws.seed,
                           .step = pass.draws.step,
                           .layer = layer_,
                           .site = static_cast<int64_t>(site_),
                           .first_sequence = pass.draws.first_sequence,
                           .first_position = pass.first_position},
                          x, x);
}

}  // namespace weft::worker
