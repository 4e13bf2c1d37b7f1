// What becomes of gangs: placed, running, stopping, released.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/core/decision.h"
#include "coordinator/core/placement.h"

namespace weft::coordinator {
namespace {

// The members' outcomes taken together, whatever order they came in.
struct Verdict {
  enum Kind { kSucceeded, kStoppedAsAsked, kLost, kFailed, kUserError } kind = kSucceeded;
  Reason reason;
  const GangMember* member = nullptr;  // that decided it; none: the gang as a whole
};

Verdict VerdictOf(const Job& job) {
  const bool asked =
      job.stop != StopMode::kNone && (job.stop_reason.code == ReasonCode::kUserRequest ||
                                      job.stop_reason.code == ReasonCode::kDrain);
  MemberOutcome worst = MemberOutcome::kSucceeded;
  Verdict verdict{Verdict::kSucceeded, {ReasonCode::kCompleted, "all steps are done"}};
  for (const GangMember& member : job.gang) {
    if (member.outcome.value_or(MemberOutcome::kStopped) <= worst) continue;
    worst = *member.outcome;
    verdict.reason = member.reason;
    verdict.member = &member;
  }
  switch (worst) {
    case MemberOutcome::kSucceeded:
      return verdict;
    case MemberOutcome::kUserError:
      verdict.kind = Verdict::kUserError;
      return verdict;
    case MemberOutcome::kRankFailed:
      verdict.kind = Verdict::kFailed;
      return verdict;
    case MemberOutcome::kStopped:
    case MemberOutcome::kPeerLost:
    case MemberOutcome::kHostLost:
      break;
  }
  if (job.stop_reason.code == ReasonCode::kStartTimeout) {
    return {Verdict::kFailed, job.stop_reason};
  }
  if (worst == MemberOutcome::kStopped && asked) return {Verdict::kStoppedAsAsked, job.stop_reason};
  verdict.kind = Verdict::kLost;
  return verdict;
}

Failure FailureOf(const Job& job, const Verdict& verdict, absl::Time now) {
  Failure failure{verdict.reason, job.generation, "", std::nullopt, now};
  if (verdict.member != nullptr) {
    failure.worker = verdict.member->worker;
    failure.rank = verdict.member->rank;
    failure.at = verdict.member->ended;
  }
  return failure;
}

absl::Duration BackOff(const JobRequest& request, int32_t failures_without_progress) {
  absl::Duration wait = request.back_off;
  for (int32_t i = 1; i < failures_without_progress && wait < request.max_back_off; ++i) wait *= 2;
  return std::min(wait, request.max_back_off);
}

// A failure of the job's own: tried again after a pause, or the end.
void CountFailure(const Job& job, absl::Time now, GangReleased& fact) {
  ++fact.counters.failures;
  ++fact.counters.failures_without_progress;
  if (fact.counters.failures > job.request.max_retries) {
    fact.state = JobState::kFailed;
    fact.reason = {
        ReasonCode::kRetriesExceeded,
        absl::StrCat("failed ", fact.counters.failures, " time(s), max_retries is ",
                     job.request.max_retries, "; last: ", fact.last_failure.reason.text)};
    return;
  }
  fact.not_before = now + BackOff(job.request, fact.counters.failures_without_progress);
}

ReasonCode CodeOf(MemberOutcome outcome) {
  switch (outcome) {
    case MemberOutcome::kSucceeded:
      return ReasonCode::kCompleted;
    case MemberOutcome::kStopped:
      return ReasonCode::kHostLost;  // nobody asked: its agent shut down
    case MemberOutcome::kPeerLost:
      return ReasonCode::kPeerLost;
    case MemberOutcome::kHostLost:
      return ReasonCode::kHostLost;
    case MemberOutcome::kRankFailed:
      return ReasonCode::kRankFailed;
    case MemberOutcome::kUserError:
      return ReasonCode::kUserError;
  }
  return ReasonCode::kNone;
}

}  // namespace

void Decision::SendStart(const Job& job, const GangMember& member) {
  StartMember start;
  start.worker = member.worker;
  start.incarnation = member.incarnation;
  start.job = job.id;
  start.job_name = job.name;
  start.generation = job.generation;
  start.member_index = static_cast<int32_t>(&member - job.gang.data());
  start.gang = job.gang;
  if (!job.checkpoints.empty()) start.restore = job.checkpoints.back();
  start.spec = job.request.spec;
  Send(std::move(start));
}

void Decision::SendStop(const Worker& worker, JobId job, Generation generation, StopMode mode,
                        const Reason& reason) {
  if (worker.connection != WorkerConnection::kConnected) return;
  Send(StopMember{worker.name, worker.incarnation, job, generation, mode, reason});
}

void Decision::StopGang(const Job& job, StopMode mode, const Reason& reason) {
  if (job.stop >= mode || job.LiveMembers() == 0) return;
  const absl::Duration limit =
      mode == StopMode::kNow ? policy_.release_timeout : policy_.save_timeout;
  Record(GangStopping{job.id, job.generation, mode, reason, now_, now_ + limit});
  for (const GangMember& member : job.gang) {
    const Worker* worker = state_.FindWorker(member.worker);
    if (worker == nullptr || member.outcome.has_value()) continue;
    SendStop(*worker, job.id, job.generation, mode, reason);
  }
}

void Decision::EndMember(const Job& job, const WorkerName& worker, MemberOutcome outcome,
                         const Reason& reason, LastWords said) {
  Record(MemberEnded{job.id, job.generation, worker, outcome, reason, said.step,
                     std::move(said.weights_hash), now_, said.rank});
  if (job.LiveMembers() == 0) return Release(job);
  const bool expected = outcome == MemberOutcome::kSucceeded ||
                        (outcome == MemberOutcome::kStopped && job.stop != StopMode::kNone);
  if (expected) return;
  // The rest of the gang cannot go on without it: the generation is over everywhere.
  StopGang(job, StopMode::kNow,
           {CodeOf(outcome),
            absl::StrCat("generation ", job.generation.value(), " ended: ", reason.text)});
}

void Decision::Release(const Job& job) {
  const Verdict verdict = VerdictOf(job);
  GangReleased fact{job.id,       job.generation, JobState::kQueued,   verdict.reason, {},
                    job.counters, now_,           absl::InfinitePast()};
  const bool failed = verdict.kind == Verdict::kFailed || verdict.kind == Verdict::kLost ||
                      verdict.kind == Verdict::kUserError;
  if (failed) fact.last_failure = FailureOf(job, verdict, now_);
  if (verdict.kind == Verdict::kSucceeded) {
    fact.state = JobState::kSucceeded;
  } else if (job.goal == JobGoal::kCancel) {
    fact.state = JobState::kCancelled;
    fact.reason = {ReasonCode::kUserRequest, "cancelled on request"};
  } else if (verdict.kind == Verdict::kUserError) {
    fact.state = JobState::kFailed;
  } else if (job.goal == JobGoal::kPause) {
    fact.state = JobState::kPaused;
    fact.reason = {ReasonCode::kUserRequest,
                   failed
                       ? absl::StrCat("paused on request; it could not save: ", verdict.reason.text)
                       : "paused on request"};
  } else if (verdict.kind == Verdict::kStoppedAsAsked) {
    if (job.stop_reason.code != ReasonCode::kDrain) {
      fact.reason = {ReasonCode::kUserRequest, "resumed on request"};
    }
  } else if (verdict.kind == Verdict::kFailed) {
    CountFailure(job, now_, fact);
  } else if (verdict.kind == Verdict::kLost) {
    ++fact.counters.host_losses;
    ++fact.counters.losses_without_progress;
    // Hosts come and go through no fault of the job, unless it is what brings them down.
    if (fact.counters.losses_without_progress > policy_.max_losses_without_progress) {
      CountFailure(job, now_, fact);
    }
  }
  const bool moved =
      verdict.kind == Verdict::kStoppedAsAsked && job.stop_reason.code == ReasonCode::kDrain;
  if (fact.state == JobState::kQueued && (failed || moved)) ++fact.counters.recoveries;
  Record(std::move(fact));
}

void Decision::MaybeRunning(const Job& job) {
  if (job.state != JobState::kStarting || job.stop != StopMode::kNone) return;
  for (const GangMember& member : job.gang) {
    if (member.outcome.has_value())
      continue;  // it succeeded already, or the gang would be stopping
    const Worker* worker = state_.FindWorker(member.worker);
    if (worker == nullptr) return;
    const bool trains = std::any_of(
        worker->running.begin(), worker->running.end(), [&](const MemberReport& report) {
          return report.job == job.id && report.generation == job.generation &&
                 report.phase >= MemberPhase::kTraining;
        });
    if (!trains) return;
  }
  Record(GangRunning{job.id, job.generation, now_});
}

void Decision::Place(const Job& job, std::string device_class, std::vector<GangMember> members) {
  Record(GangPlaced{job.id, job.generation.Next(), std::move(device_class), std::move(members),
                    now_, now_ + policy_.start_timeout});
  for (const GangMember& member : job.gang) SendStart(job, member);
}

void Decision::PlaceQueued() {
  const bool gathering = now_ < state_.gather_until;
  Reserved reserved;
  QueueWalk walk(state_);
  while (const Job* job = walk.Next()) {
    // One that still stops waits, too: what its gang frees is kept for it.
    const bool stopping = job->LiveMembers() > 0;
    if (!stopping && job->deadline != absl::InfiniteFuture()) continue;  // until BackOffEnded
    const int32_t allowance = QueueAllowance(state_, *job);
    if (allowance < job->request.min_workers) {
      // What waiting cannot help does not hold others up.
      if (!IsAboveQueueLimit(state_, *job)) walk.Tell(Visit::kCloseLane);
      continue;
    }
    const Supply supply = SupplyFor(state_, *job);
    GangChoice choice = ChooseGang(*job, supply, reserved, allowance, gathering);
    const std::string bound = BoundDeviceClass(*job);
    switch (choice.fit) {
      case Fit::kPlaced:
        Place(*job, std::move(choice.device_class), std::move(choice.members));
        break;
      case Fit::kTooFew:
        // Waiting for others to end cannot help it, so it does not hold others up. With no worker
        // at all nobody else of this kind can be helped either.
        if (supply.empty() && bound.empty()) walk.Tell(Visit::kCloseKind);
        break;
      case Fit::kBusy:
      case Fit::kGathering:
        // First come, first served: what it waits for is kept for it.
        if (!bound.empty()) {
          reserved.classes.insert(bound);
        } else if (job->request.device_kind == kAnyDeviceKind) {
          walk.Tell(Visit::kCloseAll);
        } else {
          reserved.kinds.insert(job->request.device_kind);
          walk.Tell(Visit::kCloseKind);
        }
        break;
    }
  }
}

}  // namespace weft::coordinator
