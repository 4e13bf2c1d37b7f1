// GpuMetrics: memory and utilisation of this worker's GPUs, as their driver tells them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/metrics/metrics_sink.h"
#include "weft/v1/worker.pb.h"
#include "worker/agent/nvml.h"

namespace weft::worker {

// One thread at a time; Measure may wait for the driver.
class GpuMetrics {
 public:
  using UseOf = std::function<absl::StatusOr<GpuUse>(const std::string& uuid)>;

  // `metrics` outlives this. Of `devices`, those that are no GPUs are passed over. Without `use_of`
  // the driver is asked.
  GpuMetrics(MetricsSink& metrics, const std::vector<v1::Device>& devices, UseOf use_of = nullptr);

  [[nodiscard]] bool has_gpus() const { return !gpus_.empty(); }
  // What cannot be learnt now has no series.
  void Measure();

 private:
  absl::StatusOr<GpuUse> AskDriver(const std::string& uuid);

  MetricsSink& metrics_;
  std::vector<v1::Device> gpus_;
  UseOf use_of_;
  std::unique_ptr<Nvml> nvml_;
};

}  // namespace weft::worker
