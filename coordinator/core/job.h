// What the scheduler knows of a job: its request, its state and its gang. Plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/core/ids.h"
#include "coordinator/core/shared_bytes.h"

namespace weft::coordinator {

// The numbers are stored: never renumber, only append.
enum class JobState : uint8_t {
  kQueued = 1,      // waits for workers, for a back-off, or for the ranks of an ended generation
  kStarting = 2,    // a gang is placed; not every member trains yet
  kRunning = 3,     // every member trains (also while it saves in order to move off a worker)
  kPausing = 4,     // asked to save and stop
  kPaused = 5,      // rests until it is resumed
  kCancelling = 6,  // asked to stop
  kSucceeded = 7,
  kFailed = 8,
  kCancelled = 9,
};

// Resting: nothing happens to the job unless somebody asks.
[[nodiscard]] bool IsResting(JobState state);
// Finished for good: SUCCEEDED, FAILED, CANCELLED. Only finished jobs can be deleted.
[[nodiscard]] bool IsFinished(JobState state);
[[nodiscard]] const char* ToString(JobState state);  // "QUEUED"

// Why a job is in its state, or why a generation ended. Stored numbers: only append.
enum class ReasonCode : uint8_t {
  kNone = 0,
  kSubmitted = 1,        // new in its queue
  kPlaced = 2,           // a gang was placed
  kTraining = 3,         // every member reported that it trains
  kCompleted = 4,        // every member reported success
  kUserRequest = 5,      // cancelled, paused or resumed by a person
  kUserError = 6,        // bad data or configuration: running it again cannot help
  kRankFailed = 7,       // a rank ended with an error that another attempt may not meet
  kHostLost = 8,         // a worker was lost, restarted or left
  kPeerLost = 9,         // members lost contact with each other, and none says why
  kDrain = 10,           // moved off a worker that an operator drains
  kStartTimeout = 11,    // the gang did not begin to train in time
  kRetriesExceeded = 12  // failed more often than max_retries allows
};
[[nodiscard]] const char* ToString(ReasonCode code);  // "HOST_LOST"

struct Reason {
  ReasonCode code = ReasonCode::kNone;
  std::string text;  // for people; one sentence, names the worker or field it is about
  friend bool operator==(const Reason&, const Reason&) = default;
};

// A job of this kind takes workers of any kind; its gang is of one device class all the same.
inline constexpr char kAnyDeviceKind[] = "any";

// The part of a spec that scheduling needs; the rest stays in `spec`, opaque.
struct JobRequest {
  std::string name;        // of the spec; the job's own name is "<name>-<id>"
  std::string request_id;  // a repeat returns the first job; empty = every submit is a new job
  QueueName queue = kDefaultQueue;
  int32_t priority = 0;     // greater goes first within equal queue priority
  std::string device_kind;  // "cpu", "gpu": every member's, exactly; kAnyDeviceKind: one of them
  int32_t min_workers = 1;  // a gang has at least these
  int32_t max_workers = 1;  // and at most these, as many as are free
  int32_t slots_per_worker = 1;  // ranks on each worker; 0 = all slots of the worker
  int32_t max_retries = 3;  // failures of its own that are tried again; lost hosts do not count
  absl::Duration back_off = absl::Seconds(1);  // after the first failure; doubles
  absl::Duration max_back_off = absl::Minutes(5);
  bool fixed_device_class = true;  // reproducible: a checkpoint continues on its own device class
  SharedBytes spec;
  // Whether the job may run on devices of this kind.
  [[nodiscard]] bool Takes(const std::string& kind) const {
    return device_kind == kAnyDeviceKind || device_kind == kind;
  }
  friend bool operator==(const JobRequest&, const JobRequest&) = default;
};

// How the work of one member ended. Severity grows downwards: the generation's verdict is the worst
// of its members', whatever order their reports came in. Stored numbers: only append.
enum class MemberOutcome : uint8_t {
  kSucceeded = 1,   // the job is complete
  kStopped = 2,     // stopped when asked (or its agent shut down), or had never been started
  kPeerLost = 3,    // gave up because another member went away; says nothing of its own health
  kHostLost = 4,    // its worker was lost or restarted
  kRankFailed = 5,  // crashed or failed by itself; may be tried again
  kUserError = 6,   // will fail again in the same way: bad data, bad configuration
};
[[nodiscard]] const char* ToString(MemberOutcome outcome);  // "RANK_FAILED"

// How a generation ended badly, and where that began.
struct Failure {
  Reason reason;                         // kNone: there was no failure
  Generation generation;                 // that ended
  WorkerName worker;                     // of the member that decided; empty = the whole gang
  std::optional<int32_t> rank;           // of that member, where it was one rank's
  absl::Time at = absl::InfinitePast();  // when it was known; infinite past = not recorded
  friend bool operator==(const Failure&, const Failure&) = default;
};

// The ranks of a gang on one worker: first_rank, first_rank + 1, ... first_rank + slots - 1.
struct GangMember {
  WorkerName worker;
  Incarnation incarnation;  // of the agent when it was placed; another one means the ranks are gone
  std::string address;      // where the worker's peers reach its agent
  int32_t first_rank = 0;
  int32_t slots = 1;
  std::optional<MemberOutcome>
      outcome;  // none while it may still run; only then it holds its slots
  Reason reason;
  std::optional<int32_t> rank;              // that decided the outcome, where one did
  absl::Time ended = absl::InfinitePast();  // when the outcome was known
  [[nodiscard]] bool Holds(int32_t number) const {
    return number >= first_rank && number < first_rank + slots;
  }
  friend bool operator==(const GangMember&, const GangMember&) = default;
};

struct Checkpoint {
  StepIndex step;
  Generation generation;
  std::string location;  // opaque to the coordinator: what the worker reported
  std::string weights_hash;
  int64_t bytes = 0;
  std::string device_class;
  absl::Time published = absl::InfinitePast();
  friend bool operator==(const Checkpoint&, const Checkpoint&) = default;
};

// What the owner wants. Stored numbers: only append.
enum class JobGoal : uint8_t { kRun = 1, kPause = 2, kCancel = 3 };

// What a placed gang has been told. Grows only: kNone < kSaveFirst < kNow.
enum class StopMode : uint8_t { kNone = 0, kSaveFirst = 1, kNow = 2 };

// How often the job was set back. Only `failures` count against max_retries.
struct JobCounters {
  int32_t failures = 0;                   // generations ended by a fault of the job's own
  int32_t host_losses = 0;                // generations ended by lost hosts or lost peers
  int32_t failures_without_progress = 0;  // since the last checkpoint: the back-off's exponent
  int32_t recoveries = 0;                 // generations placed after a failure, a loss or a drain
  int32_t losses_without_progress = 0;    // since the last checkpoint
  friend bool operator==(const JobCounters&, const JobCounters&) = default;
};

struct Job {
  JobId id;
  std::string name;  // "demo-12": unique
  JobRequest request;
  JobState state = JobState::kQueued;
  Reason reason;         // for `state`
  Failure last_failure;  // of the last generation that ended badly; stays when the job goes on
  JobGoal goal = JobGoal::kRun;

  Generation generation;         // of `gang`; 0 before the first placement
  std::string device_class;      // of `gang`
  std::vector<GangMember> gang;  // by first_rank; stays readable after it ended
  StopMode stop = StopMode::kNone;
  Reason stop_reason;

  JobCounters counters;
  StepIndex step;                       // the last one heard of
  std::string weights_hash;             // of the final weights, once SUCCEEDED
  std::vector<Checkpoint> checkpoints;  // oldest first; at most kCheckpointsRemembered

  absl::Time created = absl::InfinitePast();
  absl::Time started = absl::InfiniteFuture();   // first placement
  absl::Time finished = absl::InfiniteFuture();  // when it became SUCCEEDED, FAILED or CANCELLED
  absl::Time changed = absl::InfinitePast();     // of `state`
  // When the core must look at the job again (back-off over, start, save or release too slow);
  // infinite when only an event can change it.
  absl::Time deadline = absl::InfiniteFuture();

  // Members that may still run, and so hold their slots.
  [[nodiscard]] int32_t LiveMembers() const;
  [[nodiscard]] bool HasFailed() const { return last_failure.reason.code != ReasonCode::kNone; }
  [[nodiscard]] const GangMember* FindMember(const WorkerName& worker) const;
  friend bool operator==(const Job&, const Job&) = default;
};

inline constexpr int kCheckpointsRemembered = 32;

}  // namespace weft::coordinator
