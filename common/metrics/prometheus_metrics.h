// A MetricsSink that can be read in Prometheus' text format.
#pragma once

#include <memory>
#include <string>

#include "common/metrics/metrics_sink.h"

namespace weft {

// A metric keeps at most `series_limit` series; measurements for more are dropped and counted in
// weft_metrics_dropped_total{metric}: a flood of label values cannot exhaust memory.
class PrometheusMetrics final : public MetricsSink {
 public:
  explicit PrometheusMetrics(int series_limit = 10000);
  ~PrometheusMetrics() override;

  void Add(const Metric& counter, LabelValues labels, double amount) override;
  void Set(const Metric& gauge, LabelValues labels, double value) override;
  void Observe(const Metric& histogram, LabelValues labels, double value) override;
  void Remove(const Metric& metric, LabelValues labels) override;
  void RemoveAll(absl::string_view label, absl::string_view value) override;

  // All series, text format 0.0.4. Any thread.
  [[nodiscard]] std::string Text() const;

 private:
  class Registry;
  std::unique_ptr<Registry> registry_;
};

}  // namespace weft
