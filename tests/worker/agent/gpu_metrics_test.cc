#include "worker/agent/gpu_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/metrics/prometheus_metrics.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(GpuMetricsTest, TellsWhatTheDriverSaysAndNothingWhenItSaysNothing) {
  v1::Device gpu;
  gpu.set_kind(v1::DEVICE_KIND_GPU);
  gpu.set_index(3);
  gpu.set_uuid("GPU-5f");
  gpu.set_memory_bytes(1000);
  v1::Device cpu;
  cpu.set_kind(v1::DEVICE_KIND_CPU);
  PrometheusMetrics sink;
  bool answers = true;
  GpuMetrics metrics(sink, {cpu, gpu},
                     [&answers](const std::string& uuid) -> absl::StatusOr<GpuUse> {
                       EXPECT_EQ(uuid, "GPU-5f");
                       if (!answers) return absl::UnavailableError("the driver is gone");
                       return GpuUse{.memory_used_bytes = 250, .busy = 0.5};
                     });
  EXPECT_TRUE(metrics.has_gpus());
  metrics.Measure();
  EXPECT_THAT(sink.Text(),
              AllOf(HasSubstr("weft_device_memory_bytes{device=\"3\",kind=\"gpu\"} 1000\n"),
                    HasSubstr("weft_device_memory_used_bytes{device=\"3\",kind=\"gpu\"} 250\n"),
                    HasSubstr("weft_device_utilization_ratio{device=\"3\",kind=\"gpu\"} 0.5\n"),
                    Not(HasSubstr("cpu"))));
  answers = false;
  metrics.Measure();
  EXPECT_THAT(sink.Text(), AllOf(Not(HasSubstr("used_bytes{")), Not(HasSubstr("ratio{"))));
}

TEST(GpuMetricsTest, AWorkerWithoutGpusAsksNobody) {
  PrometheusMetrics sink;
  EXPECT_FALSE(GpuMetrics(sink, {}).has_gpus());
}

}  // namespace
}  // namespace weft::worker
