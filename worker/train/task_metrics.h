// TaskMetrics: what is told beside the loss: the share of right answers, the loss in the form that
// the data's readers know, and what parts of the model count.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/model/step_metrics.h"

namespace weft::worker {

// A loss in nats means different things: per byte of a text, per token of a vocabulary.
enum class LossForm : uint8_t {
  kNone,         // of classes: accuracy says it
  kBitsPerByte,  // loss / ln 2, where a target is a byte
  kPerplexity,   // exp(loss)
};

inline constexpr absl::string_view kAccuracy = "accuracy";
inline constexpr absl::string_view kBitsPerByte = "bits_per_byte";
inline constexpr absl::string_view kPerplexity = "perplexity";

struct StepMetric {
  std::string name;
  std::optional<int64_t> layer = std::nullopt;  // 0-based; nothing: of the whole model
  double value = 0;
  friend bool operator==(const StepMetric&, const StepMetric&) = default;
};

// A loss and what goes with it.
struct TaskMetrics {
  double loss = 0;  // mean over the targets, in nats, with what the model adds to it
  // Accuracy first, then the loss's form, then the model's own.
  std::vector<StepMetric> metrics = {};
  friend bool operator==(const TaskMetrics&, const TaskMetrics&) = default;
};

// What is summed over the shards of a step: the targets' losses, right answers, what the model adds
// to the mean loss, and of each of the model's own metrics a sum and a count.
inline constexpr size_t kLossSum = 0, kRightSum = 1, kAddedLoss = 2, kCountedSums = 3;
inline size_t SumsOf(absl::Span<const MetricName> names) { return kCountedSums + 2 * names.size(); }

// The metrics of such sums over `targets` targets. Of the model's own, each name's mean over all
// layers, then those of its layers; what has no count is left out.
TaskMetrics MetricsOf(absl::Span<const double> sums, double targets, LossForm form,
                      absl::Span<const MetricName> names);

}  // namespace weft::worker
