#include "worker/agent/gpu_metrics.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "worker/agent/agent_metrics.h"

namespace weft::worker {

GpuMetrics::GpuMetrics(MetricsSink& metrics, const std::vector<v1::Device>& devices, UseOf use_of)
    : metrics_(metrics), use_of_(std::move(use_of)) {
  for (const v1::Device& device : devices) {
    if (device.kind() == v1::DEVICE_KIND_GPU) gpus_.push_back(device);
  }
  if (use_of_ == nullptr) use_of_ = [this](const std::string& uuid) { return AskDriver(uuid); };
}

absl::StatusOr<GpuUse> GpuMetrics::AskDriver(const std::string& uuid) {
  if (nvml_ == nullptr) {
    WEFT_ASSIGN_OR_RETURN(nvml_, Nvml::Open());
  }
  return nvml_->Use(uuid);
}

void GpuMetrics::Measure() {
  for (const v1::Device& gpu : gpus_) {
    const std::string index = absl::StrCat(gpu.index());
    metrics_.Set(kDeviceMemory, {index, "gpu"}, static_cast<double>(gpu.memory_bytes()));
    const absl::StatusOr<GpuUse> use = use_of_(gpu.uuid());
    if (use.ok()) {
      metrics_.Set(kDeviceMemoryUsed, {index, "gpu"}, static_cast<double>(use->memory_used_bytes));
      metrics_.Set(kDeviceUtilization, {index, "gpu"}, use->busy);
    } else {
      metrics_.Remove(kDeviceMemoryUsed, {index, "gpu"});
      metrics_.Remove(kDeviceUtilization, {index, "gpu"});
    }
  }
}

}  // namespace weft::worker
