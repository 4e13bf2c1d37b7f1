// Where the numbers of a process go. Code that measures names a Metric (a constant) and the values
// of its labels; what serves them to Prometheus stands behind the interface (prometheus_metrics.h).
//
//   inline constexpr Metric kSubmissions = {.name = "weft_submissions_total",
//                                           .help = "Jobs that clients asked for.",
//                                           .kind = MetricKind::kCounter,
//                                           .labels = {"result"}};
//   sink.Add(kSubmissions, {"accepted"}, 1);
#pragma once

#include <array>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace weft {

enum class MetricKind { kCounter, kGauge, kHistogram };

// A family of series. Names are weft_*, in base units (seconds, bytes), counters end in _total. A
// label takes few values: tens, not thousands.
struct Metric {
  absl::string_view name;
  absl::string_view help;  // one sentence
  MetricKind kind = MetricKind::kGauge;
  std::array<absl::string_view, 3> labels = {};  // names; empty ones do not exist
  absl::Span<const double> buckets = {};         // of a histogram: upper bounds, ascending
};

// Values in the order of Metric::labels, as many as it has.
using LabelValues = absl::Span<const absl::string_view>;

// Every method may be called from any thread and never fails: a measurement that cannot be kept is
// dropped. The Metric must live as long as the sink.
class MetricsSink {
 public:
  virtual ~MetricsSink() = default;

  // Raises a counter by `amount`, at least 0.
  virtual void Add(const Metric& counter, LabelValues labels, double amount) = 0;
  virtual void Set(const Metric& gauge, LabelValues labels, double value) = 0;
  virtual void Observe(const Metric& histogram, LabelValues labels, double value) = 0;
  // Ends one series; nothing happens when it does not exist.
  virtual void Remove(const Metric& metric, LabelValues labels) = 0;
  // Ends every series, of any metric, whose label `label` has this value: what a finished job
  // leaves.
  virtual void RemoveAll(absl::string_view label, absl::string_view value) = 0;
};

// Buckets of a duration, in seconds: 0.5 ms to a minute.
inline constexpr double kSecondsBuckets[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                             0.25,   0.5,   1,      2.5,   5,    10,    30,   60};

// Forgets everything.
class NullMetrics final : public MetricsSink {
 public:
  void Add(const Metric&, LabelValues, double) override {}
  void Set(const Metric&, LabelValues, double) override {}
  void Observe(const Metric&, LabelValues, double) override {}
  void Remove(const Metric&, LabelValues) override {}
  void RemoveAll(absl::string_view, absl::string_view) override {}
};

}  // namespace weft
