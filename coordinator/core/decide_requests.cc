// What follows from the requests of people.
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/core/decision.h"

namespace weft::coordinator {
namespace {

absl::Status CheckRequest(const JobRequest& request) {
  if (request.name.empty()) return absl::InvalidArgumentError("the job has no name");
  if (request.device_kind.empty()) return absl::InvalidArgumentError("the job has no device kind");
  if (request.min_workers < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("min_workers is ", request.min_workers, "; it must be at least 1"));
  }
  if (request.max_workers < request.min_workers) {
    return absl::InvalidArgumentError(absl::StrCat("max_workers is ", request.max_workers,
                                                   "; it must be at least min_workers, which is ",
                                                   request.min_workers));
  }
  if (request.slots_per_worker < 0 || request.max_retries < 0) {
    return absl::InvalidArgumentError("slots_per_worker and max_retries must not be negative");
  }
  if (request.back_off < absl::ZeroDuration() || request.max_back_off < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("the back-off must not be negative");
  }
  return absl::OkStatus();
}

absl::Status WrongState(const Job& job, absl::string_view wanted) {
  return absl::FailedPreconditionError(
      absl::StrCat("job ", job.name, " is ", ToString(job.state), "; ", wanted));
}

}  // namespace

void Decision::Handle(const JobSubmitted& event) {
  const JobRequest& request = event.request;
  if (!request.request_id.empty()) {
    const auto first = state_.job_by_request.find(request.request_id);
    if (first != state_.job_by_request.end()) {
      const Job* job = state_.FindJob(first->second);
      if (job != nullptr && job->request == request) {
        outcome_.reply = job->id;
      } else {
        Refuse(absl::InvalidArgumentError(absl::StrCat(
            "request_id \"", request.request_id, "\" was used for another job; make a new one")));
      }
      return;
    }
  }
  if (absl::Status status = CheckRequest(request); !status.ok()) return Refuse(std::move(status));
  if (state_.FindQueue(request.queue) == nullptr) {
    return Refuse(NoSuchQueue(state_, request.queue));
  }
  if (state_.queued_jobs >= policy_.max_queued_jobs) {
    return Refuse(absl::ResourceExhaustedError(
        absl::StrCat(state_.queued_jobs, " jobs are waiting, which is the limit")));
  }
  const JobId id = state_.last_job.Next();
  outcome_.reply = id;
  Record(JobAdded{id, request, now_});
}

void Decision::Handle(const JobCancelRequested& event) {
  const Job* job = RequireJob(event.job);
  if (job == nullptr) return;
  outcome_.reply = job->id;
  if (job->state == JobState::kCancelling) return;
  if (IsFinished(job->state))
    return Refuse(WrongState(*job, "only a job that has not ended can be cancelled"));
  const Reason reason{ReasonCode::kUserRequest, "cancelled on request"};
  const bool live = job->LiveMembers() > 0;
  Record(JobGoalSet{job->id, JobGoal::kCancel, live ? JobState::kCancelling : JobState::kCancelled,
                    reason, now_});
  if (live) StopGang(*job, StopMode::kNow, reason);
}

void Decision::Handle(const JobPauseRequested& event) {
  const Job* job = RequireJob(event.job);
  if (job == nullptr) return;
  outcome_.reply = job->id;
  if (job->state == JobState::kPausing) return;
  if (job->goal != JobGoal::kRun || IsResting(job->state)) {
    return Refuse(WrongState(*job, "only a job that waits or runs can be paused"));
  }
  const Reason reason{ReasonCode::kUserRequest, "paused on request"};
  const bool live = job->LiveMembers() > 0;
  Record(JobGoalSet{job->id, JobGoal::kPause, live ? JobState::kPausing : JobState::kPaused, reason,
                    now_});
  if (live) StopGang(*job, StopMode::kSaveFirst, reason);
}

void Decision::Handle(const JobResumeRequested& event) {
  const Job* job = RequireJob(event.job);
  if (job == nullptr) return;
  outcome_.reply = job->id;
  if (job->state != JobState::kPaused && job->state != JobState::kPausing) {
    return Refuse(WrongState(*job, "only a paused job can be resumed"));
  }
  // A gang that is saving goes on saving; then the job is placed again like any other.
  const bool saving = job->state == JobState::kPausing && job->stop == StopMode::kSaveFirst;
  Record(JobGoalSet{job->id,
                    JobGoal::kRun,
                    saving ? JobState::kRunning : JobState::kQueued,
                    {ReasonCode::kUserRequest, "resumed on request"},
                    now_});
}

void Decision::Handle(const JobDeleteRequested& event) {
  const Job* job = RequireJob(event.job);
  if (job == nullptr) return;
  outcome_.reply = job->id;
  if (!IsFinished(job->state)) {
    return Refuse(WrongState(*job, "only a job that has ended can be deleted"));
  }
  Record(JobDeleted{job->id});
}

void Decision::Handle(const DrainRequested& event) {
  const Worker* worker = RequireWorker(event.worker);
  if (worker == nullptr) return;
  // Drained for good outlasts drained until its restart, whatever the order of the two.
  if (worker->draining && (event.until_restart || worker->drained_incarnation.empty())) return;
  if (event.until_restart && worker->incarnation.empty()) {
    return Refuse(absl::FailedPreconditionError(absl::StrCat(
        "worker ", event.worker,
        " has not joined since the coordinator started: which process is to be drained until its "
        "restart is not known yet")));
  }
  Drain(*worker, event.reason, event.until_restart ? worker->incarnation : Incarnation());
}

void Decision::Drain(const Worker& worker, const std::string& reason,
                     const Incarnation& until_after) {
  Record(WorkerDrainSet{worker.name, true, reason, now_, until_after});
  const std::map<JobId, Placement> placed = worker.placed;
  for (const auto& [id, placement] : placed) {
    const Job* job = state_.FindJob(id);
    if (job == nullptr || job->stop != StopMode::kNone) continue;
    StopGang(
        *job, StopMode::kSaveFirst,
        {ReasonCode::kDrain, absl::StrCat("moves off worker ", worker.name, ", which is drained")});
  }
}

void Decision::Handle(const UndrainRequested& event) {
  const Worker* worker = RequireWorker(event.worker);
  if (worker == nullptr || !worker->draining) return;
  Record(WorkerDrainSet{event.worker, false, "", now_, ""});
  // One that is lost was listed for its drain alone.
  if (worker->connection == WorkerConnection::kLost) {
    Record(WorkerLost{event.worker, worker->lost_why, now_, now_ + policy_.forget_lost_worker});
  }
}

void Decision::Handle(const QueueCreateRequested& event) {
  const QueueSettings& settings = event.settings;
  if (settings.name.empty() || settings.max_workers < 0) {
    return Refuse(absl::InvalidArgumentError("a queue needs a name and max_workers of at least 0"));
  }
  if (state_.FindQueue(settings.name) != nullptr) {
    return Refuse(
        absl::AlreadyExistsError(absl::StrCat("queue \"", settings.name, "\" exists already")));
  }
  Record(QueueSet{settings});
}

void Decision::Handle(const QueueUpdateRequested& event) {
  const Queue* queue = state_.FindQueue(event.settings.name);
  if (queue == nullptr) {
    return Refuse(NoSuchQueue(state_, event.settings.name));
  }
  if (event.settings.max_workers < 0) {
    return Refuse(absl::InvalidArgumentError("max_workers must be at least 0"));
  }
  if (queue->settings == event.settings) return;
  Record(QueueSet{event.settings});
}

void Decision::Handle(const QueueDeleteRequested& event) {
  const Queue* queue = state_.FindQueue(event.name);
  if (queue == nullptr) {
    return Refuse(NoSuchQueue(state_, event.name));
  }
  if (event.name == kDefaultQueue) {
    return Refuse(absl::FailedPreconditionError("the default queue cannot be deleted"));
  }
  if (queue->jobs > 0) {
    return Refuse(absl::FailedPreconditionError(absl::StrCat(
        "queue \"", event.name, "\" has ", queue->jobs, " job(s) that have not ended")));
  }
  Record(QueueDeleted{event.name});
}

}  // namespace weft::coordinator
