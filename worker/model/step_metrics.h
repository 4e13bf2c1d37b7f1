// StepMetrics: numbers beside the loss that parts of a model count while they run, such as the
// density of sampled graphs. Each is a mean: a sum over things and how many things there were, both
// added up over micro-batches and shards, so that the mean is the same for any number of ranks.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/base/check.h"

namespace weft::worker {

// Used by one thread.
class StepMetrics {
 public:
  struct Sums {
    double sum = 0;
    double count = 0;
  };

  // Names as they are shown: lower case with underscores, no name twice.
  explicit StepMetrics(std::vector<std::string> names)
      : names_(std::move(names)), sums_(names_.size()) {}

  // The name is one of those above.
  void Add(absl::string_view name, double sum, double count) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    WEFT_CHECK_MSG(found != names_.end(), std::string(name));
    Sums& sums = sums_[static_cast<size_t>(found - names_.begin())];
    sums.sum += sum;
    sums.count += count;
  }
  void Clear() { std::fill(sums_.begin(), sums_.end(), Sums()); }

  [[nodiscard]] absl::Span<const std::string> names() const { return names_; }
  [[nodiscard]] absl::Span<const Sums> sums() const { return sums_; }  // in the order of the names

 private:
  std::vector<std::string> names_;
  std::vector<Sums> sums_;
};

}  // namespace weft::worker
