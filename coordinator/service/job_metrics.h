// The series of single jobs: they begin with a job's first placement and end with the job.
#pragma once

#include <map>
#include <string>

#include "absl/time/time.h"
#include "common/metrics/metrics_sink.h"
#include "coordinator/core/facts.h"
#include "coordinator/core/state.h"
#include "weft/v1/job.pb.h"

namespace weft::coordinator {

// Loop thread.
class JobMetrics {
 public:
  // `metrics` must outlive this.
  explicit JobMetrics(MetricsSink& metrics) : metrics_(metrics) {}

  // Once for each job that was loaded.
  void Begin(const Job& job, absl::Time now);
  // A fact about the job `id`; `job` is what is left of it afterwards, or null.
  void OnFact(const Fact& fact, JobId id, const Job* job);
  // `repeated`: the job had come this far before.
  void OnStep(const Job& job, const v1::StepReport& step, bool repeated, absl::Time now);
  void Tick(const ClusterState& state, absl::Time now);

 private:
  struct Series {
    std::string name;
    JobState state = JobState::kQueued;          // the one that has a series
    absl::Time ending = absl::InfiniteFuture();  // first sign that the gang ends; infinite: none
  };

  // Begins, renews or ends the job's series.
  void Follow(const Job& job);
  void Start(const Job& job);
  void End(JobId id);
  void Changed(const Fact& fact, const Job& job, Series& series);
  void CountRecovery(const GangReleased& released, const Job& job);
  void OnRunning(const GangRunning& running, const Job& job, Series& series);
  // It trains, and has done so since `at` as far as is known.
  void ShowTraining(const Job& job, absl::Time at);
  void ShowCheckpoint(const Job& job);
  void AddTime(const std::string& job, absl::string_view cause, double seconds);

  MetricsSink& metrics_;
  std::map<JobId, Series> series_;
  absl::Time last_tick_ = absl::InfinitePast();
};

}  // namespace weft::coordinator
