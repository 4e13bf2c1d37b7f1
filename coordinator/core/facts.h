// What became true: the only things that change a ClusterState. Durable facts are committed before
// anybody hears of them; volatile ones describe connections and are learnt anew after a restart.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/core/events.h"
#include "coordinator/core/ids.h"
#include "coordinator/core/job.h"

namespace weft::coordinator {

// --- durable: jobs ------------------------------------------------------------------------------

struct JobAdded {
  JobId job;
  JobRequest request;
  absl::Time at;
};
// The owner's wish; `state` is the state that follows at once.
struct JobGoalSet {
  JobId job;
  JobGoal goal = JobGoal::kRun;
  JobState state = JobState::kQueued;
  Reason reason;
  absl::Time at;
};
struct JobDeleted {
  JobId job;
};
// A whole gang took its slots. STARTING.
struct GangPlaced {
  JobId job;
  Generation generation;
  std::string device_class;
  std::vector<GangMember> members;
  absl::Time at;
  absl::Time start_deadline;
};
// Every member trains. RUNNING.
struct GangRunning {
  JobId job;
  Generation generation;
  absl::Time at;
};
// The gang has to stop; mode and deadline replace those of before. With kNow and goal kRun the
// generation is over: nothing it reports counts any more, and the job is QUEUED.
struct GangStopping {
  JobId job;
  Generation generation;
  StopMode mode = StopMode::kNow;
  Reason reason;
  absl::Time at;
  absl::Time deadline;  // then: kSaveFirst becomes kNow; kNow gives the members up
};
// One member is over: its slots are free.
struct MemberEnded {
  JobId job;
  Generation generation;
  WorkerName worker;
  MemberOutcome outcome = MemberOutcome::kStopped;
  Reason reason;
  StepIndex step;
  std::string weights_hash;  // with kSucceeded
  absl::Time at;
  std::optional<int32_t> rank = std::nullopt;  // that decided the outcome, where one did
};
// All members are over, and this is what follows.
struct GangReleased {
  JobId job;
  Generation generation;
  JobState state = JobState::kQueued;
  Reason reason;         // for `state`
  Failure last_failure;  // its reason kNone: the generation did not end badly
  JobCounters counters;
  absl::Time at;
  absl::Time not_before;  // back-off; infinite past when none
};
struct CheckpointRecorded {
  JobId job;
  Checkpoint checkpoint;
};

// --- durable: workers and queues ----------------------------------------------------------------

struct WorkerRegistered {
  WorkerName worker;
  WorkerOffer offer;
  absl::Time at;
};
struct WorkerDrainSet {
  WorkerName worker;
  bool draining = true;
  std::string reason;
  absl::Time at;
  Incarnation incarnation;  // not empty: the drain ends when another one joins
};
struct WorkerForgotten {
  WorkerName worker;
};
struct QueueSet {
  QueueSettings settings;
};
struct QueueDeleted {
  QueueName name;
};

// --- volatile -----------------------------------------------------------------------------------

// All workers are absent, and have until `adopt_until` to return.
struct AdoptionBegan {
  absl::Time at;
  absl::Time adopt_until;
  absl::Time gather_until;
};
struct WorkerConnected {
  WorkerName worker;
  Incarnation incarnation;
  absl::Time at;
};
struct WorkerReported {
  WorkerName worker;
  int64_t sequence = 0;
  std::vector<MemberReport> running;
  absl::Time at;
  absl::Time deadline;  // of the next sign of life
  std::vector<EndedMember> ended = {};
};
struct WorkerDisconnected {
  WorkerName worker;
  absl::Time at;
  absl::Time deadline;  // lost when it is not back by then
};
struct WorkerLost {
  WorkerName worker;
  std::string why;
  absl::Time at;
  absl::Time forget_at;
};
struct GatheringEnded {};
// The pause after a failure is over: the job competes again.
struct BackOffEnded {
  JobId job;
};
// The coordinator was stopped for a while, or had to forget what it heard: nobody is lost before
// `hear_until`.
struct CoordinatorStalled {
  absl::Time at;
  absl::Duration away;
  absl::Time hear_until;
};

using Fact = std::variant<JobAdded, JobGoalSet, JobDeleted, GangPlaced, GangRunning, GangStopping,
                          MemberEnded, GangReleased, CheckpointRecorded, WorkerRegistered,
                          WorkerDrainSet, WorkerForgotten, QueueSet, QueueDeleted, AdoptionBegan,
                          WorkerConnected, WorkerReported, WorkerDisconnected, WorkerLost,
                          GatheringEnded, BackOffEnded, CoordinatorStalled>;

[[nodiscard]] bool IsDurable(const Fact& fact);
[[nodiscard]] const char* FactName(const Fact& fact);  // "GangPlaced"
// The job that the fact is about; 0 for facts about workers and queues.
[[nodiscard]] JobId JobOf(const Fact& fact);

}  // namespace weft::coordinator
