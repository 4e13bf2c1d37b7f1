// StepMetrics: numbers beside the samples' losses that parts of a model count while they run, such
// as the density of sampled graphs, and what such parts add to the loss. Each number is a mean: a
// sum over things and how many things there were, both added up over micro-batches and shards, so
// that the mean is the same for any number of ranks.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor.h"

namespace weft::worker {

// The share of valid pairs that sampled graphs link.
inline constexpr absl::string_view kGraphDensity = "graph_density";

struct MetricName {
  std::string name;   // as it is shown: lower case with underscores
  int64_t layer = 0;  // of the model, 0-based

  friend bool operator==(const MetricName&, const MetricName&) = default;
};

// Used by one thread.
class StepMetrics {
 public:
  struct Sums {
    double sum = 0;
    double count = 0;
  };

  // No name twice.
  explicit StepMetrics(std::vector<MetricName> names)
      : names_(std::move(names)), sums_(names_.size()) {}

  // The name is one of those above. Each element of `values` is a thing that is counted, as many
  // for each place of the pass, one place after the other; the loss of the step has `loss_weight`
  // times their sum added to it. Only the handle is kept: ops that write the values may still be on
  // their way.
  void Add(const MetricName& name, const kernels::Tensor& values, double loss_weight);
  // Adds up what was added since the last call, of the first `samples` of the pass's `places`: the
  // others hold no sample. After a pass, before the next one overwrites it.
  absl::Status Collect(kernels::Stream& stream, int64_t samples, int64_t places);
  // All sums are zero again.
  void Clear();

  [[nodiscard]] absl::Span<const MetricName> names() const { return names_; }
  [[nodiscard]] absl::Span<const Sums> sums() const { return sums_; }  // in the order of the names
  [[nodiscard]] double loss_part() const { return loss_part_; }

 private:
  struct Added {
    size_t index;
    kernels::Tensor values;
    double loss_weight;
  };

  std::vector<MetricName> names_;
  std::vector<Sums> sums_;
  double loss_part_ = 0;
  std::vector<Added> added_;
};

}  // namespace weft::worker
