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
#include "weft/v1/job.pb.h"

namespace weft::coordinator {

// Loop thread.
class ClusterMetrics {
 public:
  // `metrics` must outlive this.
  explicit ClusterMetrics(MetricsSink& metrics) : metrics_(metrics) {}

  // Once, with what was loaded: facts tell only what changes.
  void Begin(const ClusterState& state, absl::Time now);
  // `state` is after the facts.
  void OnFacts(absl::Span<const Fact> facts, const ClusterState& state);
  // `repeated`: the job had come this far before.
  void OnStep(const Job& job, const v1::StepReport& step, bool repeated);
  // About once a second: what changes by itself.
  void Tick(const ClusterState& state, absl::Time now);

 private:
  void OnFact(const Fact& fact, const ClusterState& state);
  void Follow(const Job& job);
  void CountJobs(const ClusterState& state);
  void CountWorkers(const ClusterState& state, absl::Time now);
  void CountWaiting(const ClusterState& state, absl::Time now);
  void AddTime(const Job& job, absl::string_view cause, double seconds);

  MetricsSink& metrics_;
  bool jobs_changed_ = true;
  absl::Time last_tick_ = absl::InfinitePast();
  std::map<JobId, std::string>
      placed_;                     // placed once, not finished: those with series of their own
  std::set<std::string> workers_;  // those with a heartbeat age
};

}  // namespace weft::coordinator
