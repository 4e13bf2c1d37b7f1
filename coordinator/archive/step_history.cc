#include "coordinator/archive/step_history.h"

#include <algorithm>

namespace weft::coordinator {

void StepHistory::Summary::Add(const v1::StepReport& step) {
  if (!first_loss.has_value()) first_loss = step.loss();
  if (step.has_validation_loss()) {
    validation_loss = step.validation_loss();
    validation_metrics.assign(step.validation_metrics().begin(), step.validation_metrics().end());
  }
  furthest = std::max(furthest, step.step());
  last = step;
}

// A weft.v1.Job of which only last_step, first_loss and what the last evaluation said are set.
std::string StepHistory::Summary::Encode() const {
  v1::Job stored;
  *stored.mutable_last_step() = last;
  if (first_loss.has_value()) stored.set_first_loss(*first_loss);
  if (validation_loss.has_value()) stored.set_validation_loss(*validation_loss);
  *stored.mutable_validation_metrics() = {validation_metrics.begin(), validation_metrics.end()};
  return stored.SerializeAsString();
}

bool StepHistory::Summary::Decode(absl::string_view bytes) {
  v1::Job stored;
  if (!stored.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return false;
  last = stored.last_step();
  if (stored.has_first_loss()) first_loss = stored.first_loss();
  if (stored.has_validation_loss()) validation_loss = stored.validation_loss();
  validation_metrics.assign(stored.validation_metrics().begin(), stored.validation_metrics().end());
  return true;
}

std::vector<int64_t> SpreadSteps(std::vector<int64_t> steps, int64_t max_points) {
  const auto count = static_cast<int64_t>(steps.size());
  if (count <= max_points) return steps;
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < max_points; ++i) {
    const int64_t index = max_points == 1 ? count - 1 : i * (count - 1) / (max_points - 1);
    chosen.push_back(steps[static_cast<size_t>(index)]);
  }
  return chosen;
}

int64_t ThinningStride(absl::Span<const int64_t> steps, int64_t max_points) {
  const auto points = static_cast<int64_t>(steps.size());
  int64_t stride = 1;
  for (int64_t left = points; left > max_points / 2 && stride < points * 2;) {
    stride *= 2;
    left = std::count_if(steps.begin(), steps.end(),
                         [stride](int64_t step) { return step % stride == 0; });
  }
  return stride;
}

}  // namespace weft::coordinator
