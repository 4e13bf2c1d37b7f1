#include "worker/agent/rank_metrics.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/metrics/process_usage.h"
#include "worker/agent/agent_messages.h"
#include "worker/agent/agent_metrics.h"

namespace weft::worker {
RankMetrics::RankMetrics(MetricsSink& metrics, std::vector<v1::Device> devices)
    : metrics_(metrics), devices_(std::move(devices)) {}

void RankMetrics::OnStep(const MemberKey& key, int rank, const v1::RankStep& step) {
  const absl::StatusOr<std::string> job = JobIdOf(key.job);
  if (!job.ok()) return;
  shown_[key.job] = key.generation;
  const std::string rank_text = absl::StrCat(rank);
  metrics_.Set(kRankStep, {*job, rank_text}, static_cast<double>(step.step()));
  metrics_.Add(kRankSteps, {*job, rank_text}, 1);
  const auto add = [&](absl::string_view cause, double seconds) {
    if (seconds >= 0) metrics_.Add(kRankTime, {*job, rank_text, cause}, seconds);
  };
  add("compute", step.time().compute());
  add("exchange", step.time().exchange());
  add("data", step.time().data());
  add("checkpoint", step.time().checkpoint());
  add("evaluation", step.time().evaluation());
  add("restore", step.time().restore());
}

void RankMetrics::End(const MemberKey& key) {
  const auto shown = shown_.find(key.job);
  if (shown == shown_.end() || shown->second > key.generation) return;
  shown_.erase(shown);
  if (const auto job = JobIdOf(key.job); job.ok()) metrics_.RemoveAll("job_name", *job);
}

void RankMetrics::Measure(const std::vector<MemberProcesses::RankProcess>& running,
                          absl::Time now) {
  struct Use {
    double bytes = 0;
    double seconds = 0;
  };
  std::map<int, Use> uses;  // by device
  std::map<pid_t, double> processor_seconds;
  for (const MemberProcesses::RankProcess& rank : running) {
    const auto usage = ReadProcessUsage(rank.pid);
    if (!usage.has_value()) continue;
    const double before = processor_seconds_[rank.pid];  // 0 for one that is new
    processor_seconds[rank.pid] = usage->processor_seconds;
    uses[rank.device_index].bytes += usage->resident_bytes;
    uses[rank.device_index].seconds += std::max(0.0, usage->processor_seconds - before);
  }
  processor_seconds_ = std::move(processor_seconds);
  const double elapsed = absl::ToDoubleSeconds(now - measured_);
  const bool first = std::exchange(measured_, now) == absl::InfinitePast();
  for (const v1::Device& device : devices_) {
    if (device.kind() != v1::DEVICE_KIND_CPU) continue;
    const std::string index = absl::StrCat(device.index());
    const Use& use = uses[device.index()];
    metrics_.Set(kDeviceMemoryUsed, {index, "cpu"}, use.bytes);
    metrics_.Set(kDeviceMemory, {index, "cpu"}, static_cast<double>(device.memory_bytes()));
    if (first || elapsed <= 0) continue;
    const double share = use.seconds / elapsed / std::max(1, device.threads());
    metrics_.Set(kDeviceUtilization, {index, "cpu"}, std::min(1.0, share));
  }
}

}  // namespace weft::worker
