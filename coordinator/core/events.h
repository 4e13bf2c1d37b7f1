// What happens to the coordinator: requests of people, messages of workers, time. Past tense.
// The service checks shape and size of a message, then makes one of these.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/core/ids.h"
#include "coordinator/core/job.h"

namespace weft::coordinator {

// --- people -------------------------------------------------------------------------------------
// The reply (Outcome::reply) is OK with the job's id, or a status for the caller; see Decide().

struct JobSubmitted {
  JobRequest request;
};
struct JobCancelRequested {
  JobId job;
};
struct JobPauseRequested {
  JobId job;
};
struct JobResumeRequested {
  JobId job;
};
struct JobDeleteRequested {
  JobId job;
};
struct DrainRequested {
  WorkerName worker;
};
struct UndrainRequested {
  WorkerName worker;
};

// Queues of greater priority are served first. At most max_running_jobs of a queue hold workers.
struct QueueSettings {
  QueueName name;
  int32_t priority = 0;
  int32_t max_running_jobs = 0;  // 0 = no limit
  friend bool operator==(const QueueSettings&, const QueueSettings&) = default;
};
struct QueueCreateRequested {
  QueueSettings settings;
};
struct QueueUpdateRequested {
  QueueSettings settings;
};
struct QueueDeleteRequested {
  QueueName name;
};

// --- workers ------------------------------------------------------------------------------------

// What a worker offers; constant for an incarnation.
struct WorkerOffer {
  std::string device_kind;   // "cpu", "cuda"
  std::string device_class;  // instruction set or architecture: "x86-64-v4", "sm_90"
  int32_t slots = 1;         // ranks that it can hold
  std::string address;       // where peers reach its agent: "host:port"
  friend bool operator==(const WorkerOffer&, const WorkerOffer&) = default;
};

enum class MemberPhase : uint8_t {
  kStarting = 1,  // processes are being started, state restored, peers joined
  kRunning = 2,   // trains
  kSaving = 3,    // writes a checkpoint before it stops
  kEnded = 4,     // over; listed until ForgetMember
};

// One member as its agent sees it.
struct MemberReport {
  JobId job;
  Generation generation;
  MemberPhase phase = MemberPhase::kStarting;
  StepIndex step;
  int32_t slots = 1;
  std::optional<Checkpoint> checkpoint;  // the last that this generation published, if any
  MemberOutcome outcome = MemberOutcome::kStopped;  // with kEnded
  std::string message;                              // with kEnded: for people
  friend bool operator==(const MemberReport&, const MemberReport&) = default;
};

// First message on a stream, new or again. `members` is complete: everything that runs, and
// everything that ended and has not been forgotten.
struct WorkerJoined {
  WorkerName worker;
  Incarnation incarnation;
  WorkerOffer offer;
  std::vector<MemberReport> members;
};

// The stream of this incarnation closed.
struct WorkerLeft {
  WorkerName worker;
  Incarnation incarnation;
};

// Sent every policy.heartbeat_interval and at once when a member changes its phase.
struct Heartbeat {
  WorkerName worker;
  Incarnation incarnation;
  int64_t sequence =
      0;  // grows by each heartbeat of an incarnation, from 1; older ones are ignored
  std::vector<MemberReport> members;  // complete, as in WorkerJoined
};

// One change told at once; the next heartbeats say the same. phase = kEnded when the member ended.
struct MemberReported {
  WorkerName worker;
  Incarnation incarnation;
  MemberReport report;
};

// A checkpoint is whole on disk. Reply: OK, or kAborted when the generation is over (the writer
// must not treat it as the job's checkpoint). Safe to repeat.
struct CheckpointPublished {
  JobId job;
  Checkpoint checkpoint;
};

// --- time ---------------------------------------------------------------------------------------

// First event after the state was loaded: the workers that hold gangs have adoption_grace to
// return.
struct CoordinatorStarted {};

// The wake-up that Outcome::next_wakeup asked for. When it comes much later than asked, the
// coordinator itself was stopped, and silence meanwhile proves nothing against the workers.
struct TimerFired {
  absl::Time scheduled;
};

using Event =
    std::variant<JobSubmitted, JobCancelRequested, JobPauseRequested, JobResumeRequested,
                 JobDeleteRequested, DrainRequested, UndrainRequested, QueueCreateRequested,
                 QueueUpdateRequested, QueueDeleteRequested, WorkerJoined, WorkerLeft, Heartbeat,
                 MemberReported, CheckpointPublished, CoordinatorStarted, TimerFired>;

// "JobSubmitted": for logs and metrics.
[[nodiscard]] const char* EventName(const Event& event);

}  // namespace weft::coordinator
