// Names of states, facts, events and commands: for messages, metrics and the readable part of the
// store.
#include <type_traits>

#include "coordinator/core/commands.h"
#include "coordinator/core/events.h"
#include "coordinator/core/explain.h"
#include "coordinator/core/facts.h"
#include "coordinator/core/job.h"
#include "coordinator/core/state.h"

namespace weft::coordinator {

const char* ToString(JobState state) {
  switch (state) {
    case JobState::kQueued:
      return "QUEUED";
    case JobState::kStarting:
      return "STARTING";
    case JobState::kRunning:
      return "RUNNING";
    case JobState::kPausing:
      return "PAUSING";
    case JobState::kPaused:
      return "PAUSED";
    case JobState::kCancelling:
      return "CANCELLING";
    case JobState::kSucceeded:
      return "SUCCEEDED";
    case JobState::kFailed:
      return "FAILED";
    case JobState::kCancelled:
      return "CANCELLED";
  }
  return "?";
}

const char* ToString(ReasonCode code) {
  switch (code) {
    case ReasonCode::kNone:
      return "NONE";
    case ReasonCode::kSubmitted:
      return "SUBMITTED";
    case ReasonCode::kPlaced:
      return "PLACED";
    case ReasonCode::kTraining:
      return "TRAINING";
    case ReasonCode::kCompleted:
      return "COMPLETED";
    case ReasonCode::kUserRequest:
      return "USER_REQUEST";
    case ReasonCode::kUserError:
      return "USER_ERROR";
    case ReasonCode::kRankFailed:
      return "RANK_FAILED";
    case ReasonCode::kHostLost:
      return "HOST_LOST";
    case ReasonCode::kPeerLost:
      return "PEER_LOST";
    case ReasonCode::kDrain:
      return "DRAIN";
    case ReasonCode::kStartTimeout:
      return "START_TIMEOUT";
    case ReasonCode::kRetriesExceeded:
      return "RETRIES_EXCEEDED";
  }
  return "?";
}

const char* ToString(MemberOutcome outcome) {
  switch (outcome) {
    case MemberOutcome::kSucceeded:
      return "SUCCEEDED";
    case MemberOutcome::kStopped:
      return "STOPPED";
    case MemberOutcome::kPeerLost:
      return "PEER_LOST";
    case MemberOutcome::kHostLost:
      return "HOST_LOST";
    case MemberOutcome::kRankFailed:
      return "RANK_FAILED";
    case MemberOutcome::kUserError:
      return "USER_ERROR";
  }
  return "?";
}

const char* ToString(WorkerConnection connection) {
  switch (connection) {
    case WorkerConnection::kAbsent:
      return "ABSENT";
    case WorkerConnection::kConnected:
      return "CONNECTED";
    case WorkerConnection::kLost:
      return "LOST";
  }
  return "?";
}

const char* ToString(WaitRule rule) {
  switch (rule) {
    case WaitRule::kNotWaiting:
      return "NOT_WAITING";
    case WaitRule::kStopping:
      return "STOPPING";
    case WaitRule::kBackOff:
      return "BACK_OFF";
    case WaitRule::kQueueLimit:
      return "QUEUE_LIMIT";
    case WaitRule::kNoSuchDevice:
      return "NO_SUCH_DEVICE";
    case WaitRule::kTooFewWorkers:
      return "TOO_FEW_WORKERS";
    case WaitRule::kWorkersBusy:
      return "WORKERS_BUSY";
    case WaitRule::kBehindOthers:
      return "BEHIND_OTHERS";
    case WaitRule::kGathering:
      return "GATHERING";
    case WaitRule::kAboutToStart:
      return "ABOUT_TO_START";
  }
  return "?";
}

bool IsFinished(JobState state) {
  return state == JobState::kSucceeded || state == JobState::kFailed ||
         state == JobState::kCancelled;
}

bool IsResting(JobState state) { return IsFinished(state) || state == JobState::kPaused; }

// The names of a variant's alternatives, in their order.
const char* EventName(const Event& event) {
  static constexpr const char* names[] = {"JobSubmitted",
                                          "JobCancelRequested",
                                          "JobPauseRequested",
                                          "JobResumeRequested",
                                          "JobDeleteRequested",
                                          "DrainRequested",
                                          "UndrainRequested",
                                          "QueueCreateRequested",
                                          "QueueUpdateRequested",
                                          "QueueDeleteRequested",
                                          "WorkerJoined",
                                          "WorkerLeft",
                                          "Heartbeat",
                                          "MemberExited",
                                          "CheckpointPublished",
                                          "CoordinatorStarted",
                                          "TimerFired"};
  static_assert(std::size(names) == std::variant_size_v<Event>);
  return names[event.index()];
}

const char* FactName(const Fact& fact) {
  static constexpr const char* names[] = {
      "JobAdded",           "JobGoalSet",         "JobDeleted",     "GangPlaced",
      "GangRunning",        "GangStopping",       "MemberEnded",    "GangReleased",
      "CheckpointRecorded", "WorkerRegistered",   "WorkerDrainSet", "WorkerForgotten",
      "QueueSet",           "QueueDeleted",       "AdoptionBegan",  "WorkerConnected",
      "WorkerReported",     "WorkerDisconnected", "WorkerLost",     "GatheringEnded",
      "BackOffEnded",       "CoordinatorStalled"};
  static_assert(std::size(names) == std::variant_size_v<Fact>);
  return names[fact.index()];
}

const char* CommandName(const Command& command) {
  static constexpr const char* names[] = {"StartMember", "StopMember", "RefuseWorker"};
  static_assert(std::size(names) == std::variant_size_v<Command>);
  return names[command.index()];
}

bool IsDurable(const Fact& fact) {
  return std::visit(
      [](const auto& it) {
        using F = std::decay_t<decltype(it)>;
        return !(std::is_same_v<F, AdoptionBegan> || std::is_same_v<F, WorkerConnected> ||
                 std::is_same_v<F, WorkerReported> || std::is_same_v<F, WorkerDisconnected> ||
                 std::is_same_v<F, WorkerLost> || std::is_same_v<F, GatheringEnded> ||
                 std::is_same_v<F, BackOffEnded> || std::is_same_v<F, CoordinatorStalled>);
      },
      fact);
}

JobId JobOf(const Fact& fact) {
  return std::visit(
      [](const auto& it) -> JobId {
        if constexpr (requires { it.job; }) {
          return it.job;
        } else {
          return JobId();
        }
      },
      fact);
}

const WorkerName& WorkerOf(const Command& command) {
  return std::visit([](const auto& it) -> const WorkerName& { return it.worker; }, command);
}

Incarnation IncarnationOf(const Command& command) {
  return std::visit([](const auto& it) { return it.incarnation; }, command);
}

}  // namespace weft::coordinator
