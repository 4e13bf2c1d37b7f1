#include "worker/train/task_metrics.h"

#include <cmath>

#include "common/base/check.h"

namespace weft::worker {

TaskMetrics MetricsOf(absl::Span<const double> sums, double targets, LossForm form,
                      absl::Span<const std::string> names) {
  WEFT_CHECK(sums.size() == 2 + 2 * names.size());
  TaskMetrics result{.loss = sums[0] / targets, .metrics = {}};
  const auto add = [&](absl::string_view name, double value) {
    result.metrics.push_back({.name = std::string(name), .layer = {}, .value = value});
  };
  add(kAccuracy, sums[1] / targets);
  if (form == LossForm::kBitsPerByte) add(kBitsPerByte, result.loss / std::log(2.0));
  if (form == LossForm::kPerplexity) add(kPerplexity, std::exp(result.loss));
  for (size_t i = 0; i < names.size(); ++i) {
    const double count = sums[3 + 2 * i];
    if (count > 0) add(names[i], sums[2 + 2 * i] / count);
  }
  return result;
}

}  // namespace weft::worker
