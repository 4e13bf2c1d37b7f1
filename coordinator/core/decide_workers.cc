// What follows from the messages of workers, and from the passing of time.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/core/decision.h"

namespace weft::coordinator {
namespace {

Reason ReasonOf(MemberOutcome outcome, const WorkerName& worker, absl::string_view message) {
  const auto text = [&](absl::string_view otherwise) {
    return absl::StrCat("worker ", worker, ": ", message.empty() ? otherwise : message);
  };
  switch (outcome) {
    case MemberOutcome::kSucceeded:
      return {ReasonCode::kCompleted, text("done")};
    case MemberOutcome::kStopped:
      return {ReasonCode::kHostLost, text("its ranks were stopped")};
    case MemberOutcome::kPeerLost:
      return {ReasonCode::kPeerLost, text("lost contact with a peer")};
    case MemberOutcome::kHostLost:
      return {ReasonCode::kHostLost, text("lost")};
    case MemberOutcome::kRankFailed:
      return {ReasonCode::kRankFailed, text("a rank failed")};
    case MemberOutcome::kUserError:
      return {ReasonCode::kUserError, text("the job cannot work")};
  }
  return {};
}

}  // namespace

bool Decision::IsPresent(const WorkerName& name, const Incarnation& incarnation) {
  const Worker* worker = state_.FindWorker(name);
  if (worker != nullptr && !incarnation.empty() && worker->incarnation == incarnation) return true;
  const absl::Status why = absl::AbortedError(
      absl::StrCat("incarnation \"", incarnation, "\" of worker ", name, " has not joined"));
  Refuse(why);
  Send(RefuseWorker{name, incarnation, why});
  return false;
}

void Decision::Handle(const WorkerJoined& event) {
  if (event.worker.empty() || event.incarnation.empty() || event.offer.device_kind.empty() ||
      event.offer.slots < 1) {
    return Refuse(absl::InvalidArgumentError(
        "a worker needs a name, an incarnation, a device kind and at least one slot"));
  }
  const Worker* known = state_.FindWorker(event.worker);
  if (known != nullptr && known->connection == WorkerConnection::kConnected &&
      known->incarnation != event.incarnation) {
    return Refuse(absl::AlreadyExistsError(
        absl::StrCat("another worker named ", event.worker, " is connected")));
  }
  if (known != nullptr) {
    // Ranks do not outlive their agent's process.
    const std::map<JobId, Placement> placed = known->placed;
    for (const auto& [id, placement] : placed) {
      const Job* job = state_.FindJob(id);
      const GangMember* member = job == nullptr ? nullptr : job->FindMember(event.worker);
      if (member == nullptr || member->incarnation == event.incarnation) continue;
      EndMember(*job, event.worker, MemberOutcome::kHostLost,
                {ReasonCode::kHostLost,
                 absl::StrCat("the agent of worker ", event.worker, " was restarted")});
    }
  }
  if (known == nullptr || known->offer != event.offer) {
    Record(WorkerRegistered{event.worker, event.offer, now_});
  }
  if (known != nullptr && !known->drained_incarnation.empty() &&
      known->drained_incarnation != event.incarnation) {
    Record(WorkerDrainSet{event.worker, false, "", now_, ""});
  }
  Record(WorkerConnected{event.worker, event.incarnation, now_});
  Record(WorkerReported{event.worker, 0, event.running, now_, now_ + policy_.heartbeat_timeout,
                        event.ended});
  Compare(event.worker);
}

void Decision::Handle(const WorkerLeft& event) {
  const Worker* worker = state_.FindWorker(event.worker);
  if (worker == nullptr || worker->incarnation != event.incarnation ||
      worker->connection != WorkerConnection::kConnected) {
    return;
  }
  absl::Time deadline = now_ + policy_.reconnect_grace;
  for (const auto& [id, placement] : worker->placed) {
    deadline = std::max(deadline, placement.adopt_until);
  }
  Record(WorkerDisconnected{event.worker, now_, deadline});
}

void Decision::Handle(const Heartbeat& event) {
  if (!IsPresent(event.worker, event.incarnation)) return;
  const Worker& worker = *state_.FindWorker(event.worker);
  if (event.sequence <= worker.sequence) return;  // overtaken by a newer one
  if (worker.connection != WorkerConnection::kConnected) {
    Record(WorkerConnected{event.worker, event.incarnation, now_});
  }
  const int32_t free = worker.FreeSlots();
  Record(WorkerReported{event.worker, event.sequence, event.running, now_,
                        now_ + policy_.heartbeat_timeout, event.ended});
  supply_changed_ |= worker.FreeSlots() != free;
  if (event.leaving && !worker.draining) {
    Drain(worker, "its agent is stopping", event.incarnation);
  }
  Compare(event.worker);
}

void Decision::Compare(const WorkerName& name) {
  const Worker& worker = *state_.FindWorker(name);
  std::vector<JobId> placed;
  for (const auto& [id, placement] : worker.placed) placed.push_back(id);
  for (const JobId id : placed) ComparePlaced(worker, id);
  for (const MemberReport& report : worker.running) {
    const auto wanted = worker.placed.find(report.job);
    if (wanted != worker.placed.end() && wanted->second.generation == report.generation) continue;
    SendStop(worker, report.job, report.generation, StopMode::kNow,
             {ReasonCode::kNone, "not the job's present generation"});
  }
}

void Decision::ComparePlaced(const Worker& worker, JobId id) {
  const Job& job = *state_.FindJob(id);
  const GangMember& member = *job.FindMember(worker.name);
  const Placement placement = worker.placed.at(id);
  const bool listed = placement.missing_since == absl::InfiniteFuture();
  if (listed) {
    MaybeRunning(job);
  } else if (now_ - placement.missing_since > policy_.missing_grace &&
             (placement.seen || job.stop != StopMode::kNone)) {
    const MemberOutcome outcome =
        job.stop == StopMode::kNone ? MemberOutcome::kHostLost : MemberOutcome::kStopped;
    return EndMember(job, worker.name, outcome,
                     ReasonOf(outcome, worker.name, "its ranks are gone without a report"));
  }
  if (job.stop != StopMode::kNone) {
    SendStop(worker, id, job.generation, job.stop, job.stop_reason);
  } else if (!listed && !placement.seen) {
    SendStart(job, member);
  }
}

void Decision::Handle(const MemberExited& event) {
  const Job* job = state_.FindJob(event.job);
  const GangMember* member = job == nullptr ? nullptr : job->FindMember(event.worker);
  if (member == nullptr || job->generation != event.generation ||
      member->incarnation != event.incarnation) {
    return Refuse(absl::AbortedError(
        absl::StrCat("generation ", event.generation.value(), " of job ", event.job.value(),
                     " is not the present one, or has no member on worker ", event.worker)));
  }
  outcome_.reply = job->id;
  if (member->outcome.has_value()) return;  // told before, or given up
  LastWords said{event.step, event.weights_hash, event.rank};
  if (said.rank.has_value() && !member->Holds(*said.rank)) said.rank.reset();
  EndMember(*job, event.worker, event.outcome, ReasonOf(event.outcome, event.worker, event.message),
            std::move(said));
}

void Decision::Handle(const CheckpointPublished& event) {
  const Job* job = state_.FindJob(event.job);
  const Checkpoint& published = event.checkpoint;
  if (job == nullptr || job->generation != published.generation) {
    return Refuse(absl::AbortedError(
        absl::StrCat("generation ", published.generation.value(), " of job ", event.job.value(),
                     " is not the present one: its checkpoint of step ", published.step.value(),
                     " is refused")));
  }
  outcome_.reply = job->id;
  for (const Checkpoint& known : job->checkpoints) {
    if (known.generation == published.generation && known.step >= published.step) return;
  }
  Checkpoint checkpoint = published;
  checkpoint.device_class = job->device_class;
  if (checkpoint.published == absl::InfinitePast()) checkpoint.published = now_;
  Record(CheckpointRecorded{job->id, std::move(checkpoint)});
}

void Decision::LoseWorker(const WorkerName& name, std::string why) {
  const Worker& worker = *state_.FindWorker(name);
  const std::map<JobId, Placement> placed = worker.placed;
  // A worker that is drained for good stays listed: whoever drained it does not want it back
  // undrained.
  const absl::Time forget_at = worker.draining && worker.drained_incarnation.empty()
                                   ? absl::InfiniteFuture()
                                   : now_ + policy_.forget_lost_worker;
  const std::string text = absl::StrCat("worker ", name, " was lost: ", why);
  Record(WorkerLost{name, std::move(why), now_, forget_at});
  for (const auto& [id, placement] : placed) {
    EndMember(*state_.FindJob(id), name, MemberOutcome::kHostLost, {ReasonCode::kHostLost, text});
  }
}

void Decision::Handle(const CoordinatorStarted&) {
  Record(AdoptionBegan{now_, now_ + policy_.adoption_grace, now_ + policy_.gather_time});
}

void Decision::Handle(const TimerFired& event) {
  const absl::Duration late = now_ - event.scheduled;
  if (late > policy_.stall_tolerance) {
    Record(CoordinatorStalled{now_, late, now_ + policy_.heartbeat_timeout});
  }
  while (!state_.worker_deadlines.empty() && state_.worker_deadlines.begin()->first <= now_) {
    const WorkerName name = state_.worker_deadlines.begin()->second;
    OnWorkerDeadline(name);
  }
  if (state_.gather_until != absl::InfinitePast() && state_.gather_until <= now_) {
    Record(GatheringEnded{});
  }
  std::vector<JobId> due;
  for (const auto& [when, id] : state_.job_deadlines) {
    if (when > now_) break;
    due.push_back(id);
  }
  for (const JobId id : due) OnJobDeadline(id);
}

void Decision::OnWorkerDeadline(const WorkerName& name) {
  const Worker& worker = *state_.FindWorker(name);
  switch (worker.connection) {
    case WorkerConnection::kConnected:
      return LoseWorker(
          name, absl::StrCat("no heartbeat for ", absl::FormatDuration(policy_.heartbeat_timeout)));
    case WorkerConnection::kAbsent:
      return LoseWorker(name, "it did not come back in time");
    case WorkerConnection::kLost:
      return Record(WorkerForgotten{name});
  }
}

void Decision::OnJobDeadline(JobId id) {
  const Job* job = state_.FindJob(id);
  if (job == nullptr || job->deadline > now_) return;
  if (job->LiveMembers() == 0) return Record(BackOffEnded{id});
  switch (job->stop) {
    case StopMode::kNone:
      return StopGang(
          *job, StopMode::kNow,
          {ReasonCode::kStartTimeout, absl::StrCat("not every member trained within ",
                                                   absl::FormatDuration(policy_.start_timeout))});
    case StopMode::kSaveFirst:
      return StopGang(*job, StopMode::kNow, job->stop_reason);
    case StopMode::kNow:
      break;
  }
  const Generation generation = job->generation;
  const std::vector<GangMember> gang = job->gang;
  for (const GangMember& member : gang) {
    if (member.outcome.has_value() || job->generation != generation) continue;
    EndMember(*job, member.worker, MemberOutcome::kHostLost,
              {ReasonCode::kHostLost,
               absl::StrCat("worker ", member.worker, ": its ranks did not end within ",
                            absl::FormatDuration(policy_.release_timeout))});
  }
}

}  // namespace weft::coordinator
