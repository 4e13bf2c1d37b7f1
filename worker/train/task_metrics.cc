#include "worker/train/task_metrics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "common/base/check.h"

namespace weft::worker {
namespace {

// Means of what the model counts: by name, a name's mean over all layers before those of its
// layers.
std::vector<StepMetric> Counted(absl::Span<const double> sums, absl::Span<const MetricName> names) {
  std::vector<StepMetric> means;
  std::map<std::string, StepMetrics::Sums> over_layers;
  for (size_t i = 0; i < names.size(); ++i) {
    const double sum = sums[kCountedSums + 2 * i];
    const double count = sums[kCountedSums + 2 * i + 1];
    if (count <= 0) continue;
    means.push_back({.name = names[i].name, .layer = names[i].layer, .value = sum / count});
    over_layers[names[i].name].sum += sum;
    over_layers[names[i].name].count += count;
  }
  for (const auto& [name, total] : over_layers) {
    means.push_back({.name = name, .layer = {}, .value = total.sum / total.count});
  }
  std::stable_sort(means.begin(), means.end(), [](const StepMetric& a, const StepMetric& b) {
    return std::tie(a.name, a.layer) < std::tie(b.name, b.layer);
  });
  return means;
}

}  // namespace

TaskMetrics MetricsOf(absl::Span<const double> sums, double targets, LossForm form,
                      absl::Span<const MetricName> names) {
  WEFT_CHECK(sums.size() == SumsOf(names));
  const double of_targets = sums[kLossSum] / targets;
  TaskMetrics result{.loss = of_targets + sums[kAddedLoss], .metrics = {}};
  const auto add = [&](absl::string_view name, double value) {
    result.metrics.push_back({.name = std::string(name), .layer = {}, .value = value});
  };
  add(kAccuracy, sums[kRightSum] / targets);
  if (form == LossForm::kBitsPerByte) add(kBitsPerByte, of_targets / std::log(2.0));
  if (form == LossForm::kPerplexity) add(kPerplexity, std::exp(of_targets));
  for (StepMetric& counted : Counted(sums, names)) result.metrics.push_back(std::move(counted));
  return result;
}

}  // namespace weft::worker
