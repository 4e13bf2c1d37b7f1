// RankMetrics: what the ranks of this worker do, and what they take of its devices.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/metrics/metrics_sink.h"
#include "weft/v1/rank_link.pb.h"
#include "weft/v1/worker.pb.h"
#include "worker/agent/agent_types.h"
#include "worker/agent/member_processes.h"

namespace weft::worker {

// Not thread-safe.
class RankMetrics {
 public:
  // `metrics` outlives this.
  RankMetrics(MetricsSink& metrics, std::vector<v1::Device> devices);

  void OnStep(const MemberKey& key, int rank, const v1::RankStep& step);
  // The member is over, and its ranks say nothing any more.
  void End(const MemberKey& key);
  // About once a second: what CPU devices do; GPUs: GpuMetrics.
  void Measure(const std::vector<MemberProcesses::RankProcess>& running, absl::Time now);

 private:
  MetricsSink& metrics_;
  const std::vector<v1::Device> devices_;
  std::map<std::string, Generation> shown_;    // by job: whose series there are
  std::map<pid_t, double> processor_seconds_;  // of the ranks, at the last measurement
  absl::Time measured_ = absl::InfinitePast();
};

}  // namespace weft::worker
