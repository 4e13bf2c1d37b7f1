// AdamW over the flat block of weights. All ranks make the same update from the same gradient:
// each of the whole block, or each of its own part, whose state alone it holds.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device/device.h"
#include "worker/model/parameter_layout.h"
#include "worker/train/shard_plan.h"
#include "worker/train/train_config.h"

namespace weft::worker {

class Optimizer {
 public:
  struct Outcome {
    double gradient_norm = 0;  // before clipping; NaN or infinite when the gradient is not finite
    bool applied = false;      // false: the gradient was not finite and nothing was changed
  };

  // The layout outlives the optimizer. `part`: of the block; default: all of it.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(kernels::Device& device,
                                                           const ParameterLayout& layout,
                                                           const AdamWConfig& config,
                                                           double clip_norm,
                                                           std::optional<ElementRange> part = {});

  // Clips the gradient by its global norm and updates the weights of the part (of the sum type);
  // skips when it is not finite. `rounded`, unless absent, becomes the block of weights in the
  // compute type. beta1: of this step, whatever the configuration says.
  absl::StatusOr<Outcome> Step(kernels::Stream& stream, const kernels::Tensor& gradient,
                               double learning_rate, double beta1, ParameterBlock& weights,
                               const kernels::Tensor& rounded = {});

  // State that a checkpoint keeps: first and second moments of the part, and how many updates made
  // them.
  [[nodiscard]] const ElementRange& part() const { return part_; }
  [[nodiscard]] const kernels::Tensor& first_moment() const { return first_moment_; }
  [[nodiscard]] const kernels::Tensor& second_moment() const { return second_moment_; }
  [[nodiscard]] int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }

 private:
  // Neighbouring parameters that are decayed alike, gaps included: one call of the op.
  struct Segment {
    int64_t first = 0;
    int64_t count = 0;
    bool weight_decay = false;
  };

  Optimizer(const ParameterLayout& layout, const AdamWConfig& config, double clip_norm,
            const ElementRange& part);

  const AdamWConfig config_;
  const double clip_norm_;
  const ElementRange part_;
  std::vector<Segment> segments_;  // of the part
  kernels::Tensor first_moment_, second_moment_;
  kernels::Tensor sum_of_squares_;  // F64 [1]
  kernels::Tensor clip_;            // [1]
  int64_t updates_ = 0;
};

}  // namespace weft::worker
