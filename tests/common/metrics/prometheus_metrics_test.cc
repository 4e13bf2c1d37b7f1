#include "common/metrics/prometheus_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr double kBuckets[] = {1, 2};
constexpr Metric kJobs = {.name = "weft_test_jobs",
                          .help = "Jobs.",
                          .kind = MetricKind::kGauge,
                          .labels = {"state", "queue"}};
constexpr Metric kDone = {.name = "weft_test_done_total",
                          .help = "Done.",
                          .kind = MetricKind::kCounter,
                          .labels = {"job"}};
constexpr Metric kWait = {.name = "weft_test_wait_seconds",
                          .help = "Wait.",
                          .kind = MetricKind::kHistogram,
                          .labels = {"job"},
                          .buckets = kBuckets};
constexpr Metric kUp = {.name = "weft_test_up", .help = "Up.", .kind = MetricKind::kGauge};

TEST(PrometheusMetricsTest, WritesGaugesCountersAndHistograms) {
  PrometheusMetrics metrics;
  metrics.Set(kJobs, {"QUEUED", "default"}, 3);
  metrics.Set(kUp, {}, 1);
  metrics.Add(kDone, {"a"}, 2);
  metrics.Add(kDone, {"a"}, 0.5);
  metrics.Observe(kWait, {"a"}, 1.5);
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("# HELP weft_test_jobs Jobs.\n# TYPE weft_test_jobs gauge\n"));
  EXPECT_THAT(text, HasSubstr("weft_test_jobs{state=\"QUEUED\",queue=\"default\"} 3"));
  EXPECT_THAT(text, HasSubstr("weft_test_up 1"));
  EXPECT_THAT(text, HasSubstr("weft_test_done_total{job=\"a\"} 2.5"));
  EXPECT_THAT(text, HasSubstr("weft_test_wait_seconds_count{job=\"a\"} 1"));
  EXPECT_THAT(text, HasSubstr("weft_test_wait_seconds_bucket{job=\"a\",le=\"1\"} 0"));
  EXPECT_THAT(text, HasSubstr("weft_test_wait_seconds_bucket{job=\"a\",le=\"2\"} 1"));
}

TEST(PrometheusMetricsTest, RemovesTheSeriesOfOneLabelValueFromAllMetrics) {
  PrometheusMetrics metrics;
  metrics.Add(kDone, {"a"}, 1);
  metrics.Observe(kWait, {"a"}, 1);
  metrics.Set(kJobs, {"a", "default"}, 1);  // another label that happens to have the same value
  metrics.Add(kDone, {"b"}, 1);
  metrics.RemoveAll("job", "a");
  EXPECT_THAT(metrics.Text(), Not(HasSubstr("job=\"a\"")));
  EXPECT_THAT(metrics.Text(), HasSubstr("job=\"b\""));
  EXPECT_THAT(metrics.Text(), HasSubstr("state=\"a\""));
}

TEST(PrometheusMetricsTest, RemovesOneSeries) {
  PrometheusMetrics metrics;
  metrics.Set(kJobs, {"QUEUED", "default"}, 1);
  metrics.Remove(kJobs, {"RUNNING", "default"});
  EXPECT_THAT(metrics.Text(), HasSubstr("weft_test_jobs{"));
  metrics.Remove(kJobs, {"QUEUED", "default"});
  EXPECT_THAT(metrics.Text(), IsEmpty());
}

TEST(PrometheusMetricsTest, AFloodOfLabelValuesIsBoundedAndCounted) {
  PrometheusMetrics metrics(/*series_limit=*/10);
  for (int i = 0; i < 15; ++i) metrics.Add(kDone, {absl::StrCat("job-", i)}, 1);
  EXPECT_THAT(metrics.Text(), HasSubstr("job=\"job-9\""));
  EXPECT_THAT(metrics.Text(), Not(HasSubstr("job=\"job-10\"")));
  EXPECT_THAT(metrics.Text(),
              HasSubstr("weft_metrics_dropped_total{metric=\"weft_test_done_total\"} 5"));
}

TEST(PrometheusMetricsTest, NoLabelValueBreaksThePage) {
  PrometheusMetrics metrics;
  const std::string odd("a\xff\n\x01\0b", 6);
  metrics.Add(kDone, {odd}, 1);
  metrics.Add(kDone, {odd}, 1);
  EXPECT_THAT(metrics.Text(), HasSubstr("job=\"a\xef\xbf\xbd   b\"} 2"));
  metrics.Remove(kDone, {odd});
  EXPECT_THAT(metrics.Text(), IsEmpty());
  const std::string begin(199, 'x');
  const std::string name = absl::StrCat(begin, "\u00eb", std::string(1000, 'y'));
  metrics.Add(kDone, {name}, 1);
  EXPECT_THAT(metrics.Text(), HasSubstr(absl::StrCat("job=\"", begin, "\"}")));
  metrics.RemoveAll("job", name);
  EXPECT_THAT(metrics.Text(), IsEmpty());
}

TEST(PrometheusMetricsTest, CountsFromManyThreads) {
  PrometheusMetrics metrics;
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&metrics] {
      for (int n = 0; n < 1000; ++n) metrics.Add(kDone, {"a"}, 1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(metrics.Text(), HasSubstr("weft_test_done_total{job=\"a\"} 4000"));
}

}  // namespace
}  // namespace weft
