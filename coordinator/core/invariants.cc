// What must hold in every state that Apply ever makes.
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "coordinator/core/state.h"

namespace weft::coordinator {
namespace {

absl::Status Broken(const Job& job, absl::string_view rule) {
  return absl::InternalError(absl::StrCat("job ", job.name, " in ", ToString(job.state),
                                          ", generation ", job.generation.value(), ": ", rule));
}

absl::Status CheckGang(const ClusterState& state, const Job& job) {
  std::set<WorkerName> workers;
  int32_t next_rank = 0;
  for (const GangMember& member : job.gang) {
    if (!workers.insert(member.worker).second) return Broken(job, "a worker is twice in the gang");
    if (member.first_rank != next_rank) return Broken(job, "ranks are not contiguous");
    next_rank += member.slots;
    if (member.outcome.has_value()) continue;
    const Worker* worker = state.FindWorker(member.worker);
    if (worker == nullptr) return Broken(job, "a live member's worker does not exist");
    const auto placed = worker->placed.find(job.id);
    if (placed == worker->placed.end() || placed->second.generation != job.generation ||
        placed->second.slots != member.slots) {
      return Broken(job,
                    absl::StrCat("worker ", member.worker, " does not know of its live member"));
    }
    if (worker->connection == WorkerConnection::kLost) {
      return Broken(job, "a live member is on a lost worker");
    }
  }
  const auto size = static_cast<int32_t>(job.gang.size());
  if (size != 0 && (size < job.request.min_workers || size > job.request.max_workers)) {
    return Broken(job, "the gang's size is outside min_workers to max_workers");
  }
  if ((size == 0) != (job.generation == Generation())) {
    return Broken(job, "generation and gang do not belong together");
  }
  return absl::OkStatus();
}

absl::Status CheckState(const Job& job) {
  const int32_t live = job.LiveMembers();
  switch (job.state) {
    case JobState::kQueued:
      if (job.goal != JobGoal::kRun) return Broken(job, "queued, but not wanted to run");
      if (live > 0 && job.stop != StopMode::kNow)
        return Broken(job, "live members are not stopped");
      break;
    case JobState::kStarting:
    case JobState::kRunning:
      if (job.goal != JobGoal::kRun) return Broken(job, "active, but not wanted to run");
      if (live == 0 || job.stop == StopMode::kNow) return Broken(job, "active without a gang");
      for (const GangMember& member : job.gang) {
        const bool stopped_early = member.outcome.has_value() &&
                                   *member.outcome != MemberOutcome::kSucceeded &&
                                   job.stop == StopMode::kNone;
        if (stopped_early) return Broken(job, "the gang goes on without one of its members");
      }
      break;
    case JobState::kPausing:
      if (job.goal != JobGoal::kPause || live == 0 || job.stop == StopMode::kNone) {
        return Broken(job, "nothing to pause");
      }
      break;
    case JobState::kCancelling:
      if (job.goal != JobGoal::kCancel || live == 0 || job.stop != StopMode::kNow) {
        return Broken(job, "nothing to cancel");
      }
      break;
    case JobState::kPaused:
      if (job.goal != JobGoal::kPause) return Broken(job, "paused, but not wanted to be");
      [[fallthrough]];
    case JobState::kSucceeded:
    case JobState::kFailed:
    case JobState::kCancelled:
      if (live > 0) return Broken(job, "at rest with live members");
      break;
  }
  if (IsFinished(job.state) != (job.finished != absl::InfiniteFuture())) {
    return Broken(job, "the time of its end does not fit");
  }
  if (job.state != JobState::kFailed && job.counters.failures > job.request.max_retries &&
      !IsFinished(job.state)) {
    return Broken(job, "tried more often than max_retries allows");
  }
  const bool set_back = job.counters.failures + job.counters.host_losses > 0;
  if (set_back && !job.HasFailed()) return Broken(job, "it was set back, and nothing says why");
  if (job.last_failure.generation > job.generation) {
    return Broken(job, "a failure of a generation that is still to come");
  }
  for (const Checkpoint& checkpoint : job.checkpoints) {
    if (checkpoint.generation > job.generation) return Broken(job, "a checkpoint from the future");
  }
  return absl::OkStatus();
}

absl::Status CheckWorkers(const ClusterState& state) {
  size_t deadlines = 0;
  for (const auto& [name, worker] : state.workers) {
    int32_t used = 0;
    for (const auto& [id, placement] : worker.placed) {
      used += placement.slots;
      const Job* job = state.FindJob(id);
      const GangMember* member = job == nullptr ? nullptr : job->FindMember(name);
      if (member == nullptr || member->outcome.has_value() ||
          job->generation != placement.generation) {
        return absl::InternalError(absl::StrCat("worker ", name, " holds slots for job ",
                                                id.value(), ", which has no live member there"));
      }
    }
    if (used > worker.offer.slots) {
      return absl::InternalError(absl::StrCat("worker ", name, " has ", worker.offer.slots,
                                              " slots, ", used, " are placed"));
    }
    if (worker.deadline == absl::InfiniteFuture()) continue;
    ++deadlines;
    if (!state.worker_deadlines.contains({worker.deadline, name})) {
      return absl::InternalError(
          absl::StrCat("worker ", name, ": its deadline is not in the index"));
    }
  }
  if (deadlines != state.worker_deadlines.size()) {
    return absl::InternalError("the index of worker deadlines has leftovers");
  }
  return absl::OkStatus();
}

// Recounts what the indexes claim.
absl::Status CheckIndexes(const ClusterState& state) {
  std::map<QueueName, Queue> counted;
  size_t deadlines = 0;
  int32_t queued = 0;
  for (const auto& [id, job] : state.jobs) {
    Queue& queue = counted[job.request.queue];
    if (!IsFinished(job.state)) ++queue.jobs;
    queue.held_workers += job.LiveMembers();
    const auto lane = state.lanes.find({job.request.device_kind, job.request.queue});
    const bool waits =
        lane != state.lanes.end() && lane->second.contains({-int64_t{job.request.priority}, id});
    if (waits != (job.state == JobState::kQueued)) return Broken(job, "its lane is wrong");
    if (job.state == JobState::kQueued) {
      ++queue.queued_jobs;
      ++queued;
    }
    if (!job.request.request_id.empty()) {
      const auto first = state.job_by_request.find(job.request.request_id);
      if (first == state.job_by_request.end() || first->second != id) {
        return Broken(job, "its request id is not known, or is another job's");
      }
    }
    if (job.deadline == absl::InfiniteFuture()) continue;
    ++deadlines;
    if (!state.job_deadlines.contains({job.deadline, id})) {
      return Broken(job, "its deadline is not in the index");
    }
  }
  if (deadlines != state.job_deadlines.size() || queued != state.queued_jobs) {
    return absl::InternalError("an index of jobs has leftovers");
  }
  for (const auto& [name, queue] : state.queues) {
    const Queue& expected = counted[name];
    if (queue.settings.name != name || queue.jobs != expected.jobs ||
        queue.queued_jobs != expected.queued_jobs || queue.held_workers != expected.held_workers) {
      return absl::InternalError(absl::StrCat("queue ", name, " is counted wrongly"));
    }
  }
  if (state.FindQueue(kDefaultQueue) == nullptr) {
    return absl::InternalError("the default queue is gone");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckInvariants(const ClusterState& state) {
  for (const auto& [id, job] : state.jobs) {
    if (id > state.last_job) return Broken(job, "its id is above the last one given");
    WEFT_RETURN_IF_ERROR(CheckGang(state, job));
    WEFT_RETURN_IF_ERROR(CheckState(job));
  }
  WEFT_RETURN_IF_ERROR(CheckWorkers(state));
  return CheckIndexes(state);
}

}  // namespace weft::coordinator
