#include "common/metrics/process_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <map>
#include <string>

#include "absl/time/clock.h"
#include "common/metrics/process_usage.h"

namespace weft {
namespace {

class LastValues final : public MetricsSink {
 public:
  void Add(const Metric& counter, LabelValues, double amount) override {
    EXPECT_GE(amount, 0);
    values[std::string(counter.name)] += amount;
  }
  void Set(const Metric& gauge, LabelValues, double value) override {
    values[std::string(gauge.name)] = value;
  }
  void Observe(const Metric&, LabelValues, double) override {}
  void Remove(const Metric&, LabelValues) override {}
  void RemoveAll(absl::string_view, absl::string_view) override {}

  std::map<std::string, double> values;
};

TEST(ProcessMetricsTest, TellsOfThisProcess) {
  LastValues sink;
  ProcessMetrics metrics(sink);
  metrics.Measure();
  const double before = sink.values["process_cpu_seconds_total"];
  // Until the clock of processor time has moved: a few milliseconds of work.
  volatile double work = 0;
  while (sink.values["process_cpu_seconds_total"] <= before) {
    for (int i = 0; i < 100000; ++i) work = work + 1;
    metrics.Measure();
  }
  EXPECT_GT(sink.values["process_resident_memory_bytes"], 1 << 20);
  EXPECT_GE(sink.values["process_virtual_memory_bytes"],
            sink.values["process_resident_memory_bytes"]);
  EXPECT_GE(sink.values["process_open_fds"], 3);
  EXPECT_GE(sink.values["process_max_fds"], sink.values["process_open_fds"]);
  const double now = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
  EXPECT_LE(sink.values["process_start_time_seconds"], now + 1) << "the clock ticks in 10 ms";
  EXPECT_GT(sink.values["process_start_time_seconds"], now - 86400);
}

TEST(ProcessUsageTest, OfAProcessThatIsNotThereIsNothing) {
  EXPECT_TRUE(ReadProcessUsage(getpid()).has_value());
  EXPECT_FALSE(ReadProcessUsage(0).has_value());
}

}  // namespace
}  // namespace weft
