#include "worker/train/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"

namespace weft::worker {
namespace {

// From 1 at progress 0 to 0 at progress 1, along half a cosine.
double HalfCosine(double progress) { return 0.5 * (1.0 + std::cos(std::numbers::pi * progress)); }

}  // namespace

absl::Status Validate(const LearningRateConfig& config) {
  if (!(config.peak > 0) || !std::isfinite(config.peak)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the peak rate is ", config.peak, " and must be positive"));
  }
  if (!(config.final_ratio >= 0 && config.final_ratio <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("final_ratio is ", config.final_ratio, " and must be 0 to 1"));
  }
  if (config.total_steps < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("steps is ", config.total_steps, " and must be at least 1"));
  }
  if (config.warmup_steps < 0 || config.warmup_steps > config.total_steps) {
    return absl::InvalidArgumentError(absl::StrCat("warmup_steps is ", config.warmup_steps,
                                                   " and must be 0 to the ", config.total_steps,
                                                   " steps"));
  }
  if (config.initial_ratio.has_value()) {
    if (!(*config.initial_ratio >= 0 && *config.initial_ratio <= 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("initial_ratio is ", *config.initial_ratio, " and must be 0 to 1"));
    }
    if (config.warmup_steps < 2 || config.schedule == Schedule::kOneCycle) {
      return absl::InvalidArgumentError(
          "initial_ratio is for a warm-up of at least two steps on a line");
    }
  }
  const bool holds = config.hold_steps > config.warmup_steps;
  if ((config.schedule == Schedule::kStep) != holds || config.hold_steps > config.total_steps) {
    return absl::InvalidArgumentError(absl::StrCat(
        "hold_steps is ", config.hold_steps,
        " and must be, of the schedule step alone, above warmup_steps and at most the ",
        config.total_steps, " steps"));
  }
  return absl::OkStatus();
}

double LearningRateAt(const LearningRateConfig& config, int64_t step) {
  const double peak = config.peak;
  const double final_rate = config.final_ratio * peak;
  if (step < config.warmup_steps) {
    const auto warmup = static_cast<double>(config.warmup_steps);
    if (config.initial_ratio.has_value()) {
      const double first = *config.initial_ratio;
      return peak * (first + (1.0 - first) * static_cast<double>(step - 1) / (warmup - 1.0));
    }
    const double progress = static_cast<double>(step) / warmup;
    return config.schedule == Schedule::kOneCycle ? peak * HalfCosine(1.0 - progress)
                                                  : peak * progress;
  }
  const auto decay_steps = static_cast<double>(config.total_steps - config.warmup_steps);
  const double progress =
      decay_steps == 0 ? 0.0 : static_cast<double>(step - config.warmup_steps) / decay_steps;
  switch (config.schedule) {
    case Schedule::kConstant:
      return peak;
    case Schedule::kCosine:
    case Schedule::kOneCycle:
      return final_rate + (peak - final_rate) * HalfCosine(progress);
    case Schedule::kStep:
      return step > config.hold_steps ? final_rate : peak;
    case Schedule::kLinear:
      return final_rate + (peak - final_rate) * (1.0 - progress);
    case Schedule::kInverseSqrt: {
      const auto warmup = static_cast<double>(std::max<int64_t>(config.warmup_steps, 1));
      return std::max(final_rate,
                      peak * std::sqrt(warmup / static_cast<double>(std::max<int64_t>(step, 1))));
    }
  }
  return peak;
}

double NearnessToPeak(const LearningRateConfig& config, int64_t step) {
  const int64_t peak = std::max<int64_t>(config.warmup_steps, 1);
  const auto share = [](int64_t part, int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 1.0;
  };
  return step < peak ? share(step - 1, peak - 1)
                     : share(config.total_steps - step, config.total_steps - peak);
}

}  // namespace weft::worker
