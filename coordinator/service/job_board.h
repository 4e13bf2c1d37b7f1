// What is known of jobs beyond the scheduler's state: their progress, their step history and logs,
// and who is watching. Makes the Job that clients see.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/metrics/process_metrics.h"
#include "common/time/event_loop.h"
#include "coordinator/archive/archive.h"
#include "coordinator/archive/step_history.h"
#include "coordinator/driver.h"
#include "coordinator/service/cluster_metrics.h"
#include "weft/v1/job.pb.h"

namespace weft::coordinator {

// Somebody who follows one job. Called on the loop; must not add or remove watchers meanwhile.
class JobWatcher {
 public:
  virtual ~JobWatcher() = default;
  virtual void OnJobChanged() {}
  virtual void OnSteps(absl::Span<const v1::StepReport> /*steps*/) {}
  virtual void OnLogsAppended() {}
};

// Loop thread.
class JobBoard final : public DriverObserver {
 public:
  using SteppedDown = absl::AnyInvocable<void(const absl::Status&)>;

  // Nothing is owned. `stepped_down` is called when the driver gives up.
  JobBoard(EventLoop& loop, Archive& archive, MetricsSink& metrics, SteppedDown stepped_down);
  JobBoard(const JobBoard&) = delete;
  JobBoard& operator=(const JobBoard&) = delete;

  // Before anything else, on the loop.
  void Begin(const Driver& driver, const std::map<JobId, StepHistory::Summary>& summaries);
  // Ends the timer; after this nothing is called any more.
  void End();

  void OnFacts(absl::Span<const Fact> facts, const ClusterState& state) override;
  void OnCommit(const absl::Status& status, int64_t facts, absl::Duration took) override;
  void OnSteppedDown(const absl::Status& why) override;

  // `steps` in order; `done` once they are stored, or why not. What is late, of a generation before
  // the present one or sent again, only fills gaps in the history.
  void AddSteps(const Job& job, Generation generation, std::vector<v1::StepReport> steps,
                Archive::Done<bool> done);
  void LogsAppended(JobId job);

  // `explain`: the reason of a waiting job says what it waits for; this looks at the whole cluster.
  [[nodiscard]] v1::Job View(const Job& job, bool explain) const;

  void AddWatcher(JobId job, JobWatcher* watcher);
  void RemoveWatcher(JobId job, JobWatcher* watcher);

 private:
  struct Progress {
    StepHistory::Summary summary;
    double recent_seconds = 0;  // a step's, lately; 0: unknown
    // The furthest step that this process has heard of from the present generation.
    Generation generation;
    int64_t heard = 0;
  };

  void Tick();
  void OnFact(const Fact& fact, const ClusterState& state);
  template <class Call>
  void ForEachWatcher(JobId job, Call call);

  EventLoop& loop_;
  Archive& archive_;
  MetricsSink& sink_;
  ClusterMetrics metrics_;
  ProcessMetrics process_;
  SteppedDown stepped_down_;
  const Driver* driver_ = nullptr;
  std::map<JobId, Progress> progress_;
  // Jobs of the archive that the store does not know: their numbers may be given again.
  std::set<JobId> leftovers_;
  std::map<JobId, std::set<JobWatcher*>> watchers_;
  std::optional<TimerId> timer_;
  absl::Time tick_due_;
};

}  // namespace weft::coordinator
