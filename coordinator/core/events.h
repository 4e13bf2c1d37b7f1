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
  std::string reason;
  bool until_restart = false;
};
struct UndrainRequested {
  WorkerName worker;
};

struct QueueSettings {
  QueueName name;
  int32_t max_workers = 0;  // that the queue's jobs may hold together; 0 = no limit
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
  std::string device_kind;   // "cpu", "gpu"
  std::string device_class;  // instruction set or architecture: "cpu-avx512", "cuda-sm90-132"
  int32_t slots = 1;         // ranks that it can hold
  std::string address;       // where peers reach its agent: "host:port"
  SharedBytes description;   // opaque: what the service shows of it
  friend bool operator==(const WorkerOffer&, const WorkerOffer&) = default;
};

enum class MemberPhase : uint8_t {
  kStarting = 1,   // processes start, peers join
  kRestoring = 2,  // draws weights or reads them from a checkpoint
  kTraining = 3,
  kSaving = 4,    // writes a last checkpoint, because it was asked to stop
  kStopping = 5,  // will have exited soon
};

// A member that its agent runs.
struct MemberReport {
  JobId job;
  Generation generation;
  MemberPhase phase = MemberPhase::kStarting;
  StepIndex step;
  int32_t slots = 1;
  friend bool operator==(const MemberReport&, const MemberReport&) = default;
};

// A member that has ended; its agent tells how until that is acknowledged.
struct EndedMember {
  JobId job;
  Generation generation;
  friend bool operator==(const EndedMember&, const EndedMember&) = default;
};

// First message on a stream. `running` and `ended` are complete. Reply: OK (welcome), or
// kAlreadyExists when another live incarnation has this name, or kInvalidArgument for an offer that
// makes no sense.
struct WorkerJoined {
  WorkerName worker;
  Incarnation incarnation;
  WorkerOffer offer;
  std::vector<MemberReport> running;
  std::vector<EndedMember> ended = {};
};

// The stream closed. Only for the newest stream of this incarnation: an older one's end means
// nothing.
struct WorkerLeft {
  WorkerName worker;
  Incarnation incarnation;
};

// Sent every policy.heartbeat_interval and at once when a member changes its phase. Reply: OK, or
// kAborted when this incarnation is not the one that joined last.
struct Heartbeat {
  WorkerName worker;
  Incarnation incarnation;
  int64_t sequence =
      0;  // grows by each heartbeat of an incarnation, from 1; older ones are ignored
  std::vector<MemberReport> running;    // complete
  std::vector<EndedMember> ended = {};  // complete: not acknowledged yet
  bool leaving = false;  // its agent was told to stop: drained until another incarnation joins
};

// All ranks of a member have ended. The agent repeats it until it is acknowledged, which the
// service does on every reply but kUnavailable and kResourceExhausted (OK: durable; kAborted: of no
// interest).
struct MemberExited {
  WorkerName worker;
  Incarnation incarnation;
  JobId job;
  Generation generation;
  MemberOutcome outcome = MemberOutcome::kStopped;
  std::string message;                         // one sentence for a person
  StepIndex step;                              // the last that was applied
  std::string weights_hash;                    // with kSucceeded
  std::optional<int32_t> rank = std::nullopt;  // of the gang: the one that decided the outcome
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
                 MemberExited, CheckpointPublished, CoordinatorStarted, TimerFired>;

// "JobSubmitted": for logs and metrics.
[[nodiscard]] const char* EventName(const Event& event);

}  // namespace weft::coordinator
