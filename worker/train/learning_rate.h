// Learning-rate schedules: pure functions of the step, so a resumed run needs no state for them.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"

namespace weft::worker {

enum class Schedule : uint8_t {
  kConstant,     // the peak
  kCosine,       // from the peak to the final rate along half a cosine
  kLinear,       // likewise on a straight line
  kInverseSqrt,  // peak * sqrt(warmup / step), not below the final rate
  kOneCycle,     // half a cosine up over the warm-up, half a cosine down to the final rate
  kStep,         // the peak for hold_steps steps, then the final rate
};

struct LearningRateConfig {
  Schedule schedule = Schedule::kCosine;
  double peak = 3e-4;
  double final_ratio = 0.1;  // final rate = final_ratio * peak
  int64_t warmup_steps = 0;
  int64_t total_steps = 1;
  // The first step's rate as a share of the peak, where the warm-up is a line. Absent:
  // 1 / warmup_steps, as if it had begun with 0 a step earlier.
  std::optional<double> initial_ratio = std::nullopt;
  int64_t hold_steps = 0;  // of kStep
};

// kInvalidArgument with the first problem.
absl::Status Validate(const LearningRateConfig& config);

// The rate of the update that makes step `step`, counting from 1 to total_steps. The warm-up rises
// (on a line, or for kOneCycle on a cosine) from 0 at step 0 to the peak at step warmup_steps; the
// final rate is reached at step total_steps. With no warm-up, kInverseSqrt falls from step 1.
double LearningRateAt(const LearningRateConfig& config, int64_t step);

// How near the peak step `step` is: on a line from 0 at the first step to 1 at the end of the
// warm-up, and back to 0 at the last step.
double NearnessToPeak(const LearningRateConfig& config, int64_t step);

}  // namespace weft::worker
