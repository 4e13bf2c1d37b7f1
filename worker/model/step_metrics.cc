#include "worker/model/step_metrics.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "kernels/device/host_values.h"

namespace weft::worker {

void StepMetrics::Add(const MetricName& name, const kernels::Tensor& values, double loss_weight) {
  const auto found = std::find(names_.begin(), names_.end(), name);
  WEFT_CHECK_MSG(found != names_.end(), name.name);
  added_.push_back({.index = static_cast<size_t>(found - names_.begin()),
                    .values = values,
                    .loss_weight = loss_weight});
}

absl::Status StepMetrics::Collect(kernels::Stream& stream, int64_t samples, int64_t places) {
  WEFT_CHECK(samples >= 0 && samples <= places && places > 0);
  for (const Added& added : added_) {
    WEFT_ASSIGN_OR_RETURN(const std::vector<double> values,
                          kernels::ReadValues(added.values, stream));
    const auto count = static_cast<int64_t>(values.size());
    WEFT_CHECK(count % places == 0);
    const auto counted =
        absl::MakeSpan(values).first(static_cast<size_t>(count / places * samples));
    double sum = 0;
    for (const double value : counted) sum += value;
    sums_[added.index].sum += sum;
    sums_[added.index].count += static_cast<double>(counted.size());
    loss_part_ += added.loss_weight * sum;
  }
  added_.clear();
  return absl::OkStatus();
}

void StepMetrics::Clear() {
  std::fill(sums_.begin(), sums_.end(), Sums());
  loss_part_ = 0;
  added_.clear();
}

}  // namespace weft::worker
