// Turns facts and step reports into metrics.
#pragma once

#include <map>
#include <set>
#include <string>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/metrics/metrics_sink.h"
#include "coordinator/core/facts.h"
#include "coordinator/core/state.h"
#include "coordinator/service/job_metrics.h"
#include "weft/v1/job.pb.h"

namespace weft::coordinator {

// Loop thread.
class ClusterMetrics {
 public:
  // `metrics` must outlive this.
  explicit ClusterMetrics(MetricsSink& metrics) : metrics_(metrics), jobs_(metrics) {}

  // Once, with what was loaded: facts tell only what changes.
  void Begin(const ClusterState& state, absl::Time now);
  // `state` is after the facts.
  void OnFacts(absl::Span<const Fact> facts, const ClusterState& state);
  // `repeated`: the job had come this far before.
  void OnStep(const Job& job, const v1::StepReport& step, bool repeated, absl::Time now) {
    jobs_.OnStep(job, step, repeated, now);
  }
  // About once a second: what changes by itself.
  void Tick(const ClusterState& state, absl::Time now);

 private:
  void OnFact(const Fact& fact, const ClusterState& state);
  void CountJobs(const ClusterState& state, absl::Time now);
  void CountWorkers(const ClusterState& state, absl::Time now);
  void CountSlots(const ClusterState& state);

  MetricsSink& metrics_;
  JobMetrics jobs_;
  bool jobs_changed_ = true;
  std::map<QueueName, absl::Time> waiting_since_;  // of the queued job that waits longest
  std::set<std::string> workers_;                  // those with a heartbeat age
  std::set<std::string> device_kinds_;             // those with slots
};

}  // namespace weft::coordinator
