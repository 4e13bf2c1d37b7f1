#include "coordinator/core/state.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace weft::coordinator {
namespace {

template <class Map, class Key>
auto* FindIn(Map& map, const Key& key) {
  const auto it = map.find(key);
  return it == map.end() ? nullptr : &it->second;
}

// One overload a fact. Each keeps the indexes in step with what it changes.
class Applier {
 public:
  explicit Applier(ClusterState& state) : state_(state) {}

  // Takes in a whole job, as it was stored.
  void Restore(Job job) {
    const Job& kept = state_.jobs.insert_or_assign(job.id, std::move(job)).first->second;
    if (!kept.request.request_id.empty()) {
      state_.job_by_request[kept.request.request_id] = kept.id;
    }
    if (!IsFinished(kept.state)) Enter(kept);
    if (kept.deadline != absl::InfiniteFuture()) {
      state_.job_deadlines.insert({kept.deadline, kept.id});
    }
    for (const GangMember& member : kept.gang) {
      if (member.outcome.has_value()) continue;
      ++state_.queues[kept.request.queue].held_workers;
      if (Worker* worker = FindIn(state_.workers, member.worker)) {
        worker->placed[kept.id] = {kept.generation, member.slots, false, absl::InfinitePast()};
      }
    }
  }

  // --- jobs ---

  void operator()(const JobAdded& fact) {
    Job job;
    job.id = fact.job;
    job.name = absl::StrCat(fact.request.name, "-", fact.job.value());
    job.request = fact.request;
    job.reason = {ReasonCode::kSubmitted, "waits for its first placement"};
    job.created = fact.at;
    job.changed = fact.at;
    if (!job.request.request_id.empty()) {
      state_.job_by_request[job.request.request_id] = job.id;
    }
    state_.last_job = std::max(state_.last_job, job.id);
    Enter(state_.jobs.insert_or_assign(job.id, std::move(job)).first->second);
  }

  void operator()(const JobGoalSet& fact) {
    Job* job = FindIn(state_.jobs, fact.job);
    if (job == nullptr) return;
    job->goal = fact.goal;
    SetState(*job, fact.state, fact.reason, fact.at);
    if (job->LiveMembers() == 0) SetDeadline(*job, absl::InfiniteFuture());
  }

  void operator()(const JobDeleted& fact) {
    Job* job = FindIn(state_.jobs, fact.job);
    if (job == nullptr) return;
    SetDeadline(*job, absl::InfiniteFuture());
    Leave(*job);
    state_.job_by_request.erase(job->request.request_id);
    state_.jobs.erase(fact.job);
  }

  void operator()(const GangPlaced& fact) {
    Job* job = FindIn(state_.jobs, fact.job);
    if (job == nullptr) return;
    job->generation = fact.generation;
    job->device_class = fact.device_class;
    job->gang = fact.members;
    job->stop = StopMode::kNone;
    job->stop_reason = {};
    job->step = job->checkpoints.empty() ? StepIndex() : job->checkpoints.back().step;
    if (job->started == absl::InfiniteFuture()) job->started = fact.at;
    SetState(*job, JobState::kStarting,
             {ReasonCode::kPlaced, absl::StrCat("generation ", fact.generation.value(),
                                                " forms on ", fact.members.size(), " worker(s)")},
             fact.at);
    SetDeadline(*job, fact.start_deadline);
    for (const GangMember& member : fact.members) {
      ++state_.queues[job->request.queue].held_workers;
      if (Worker* worker = FindIn(state_.workers, member.worker)) {
        worker->placed[job->id] = Placement{job->generation, member.slots, false, fact.at};
      }
    }
  }

  void operator()(const GangRunning& fact) {
    Job* job = FindGang(fact.job, fact.generation);
    if (job == nullptr) return;
    SetState(*job, JobState::kRunning, {ReasonCode::kTraining, "every member trains"}, fact.at);
    SetDeadline(*job, absl::InfiniteFuture());
  }

  void operator()(const GangStopping& fact) {
    Job* job = FindGang(fact.job, fact.generation);
    if (job == nullptr) return;
    job->stop = fact.mode;
    job->stop_reason = fact.reason;
    if (job->goal == JobGoal::kRun) {
      const bool over = fact.mode == StopMode::kNow;
      SetState(*job, over ? JobState::kQueued : job->state, fact.reason, fact.at);
    }
    SetDeadline(*job, fact.deadline);
    for (const GangMember& member : job->gang) {
      Worker* worker = FindIn(state_.workers, member.worker);
      Placement* placement = worker == nullptr ? nullptr : FindIn(worker->placed, job->id);
      // Whoever is not listed now gets the whole grace to answer the stop.
      if (placement != nullptr && placement->missing_since < fact.at) {
        placement->missing_since = fact.at;
      }
    }
  }

  void operator()(const MemberEnded& fact) {
    Job* job = FindGang(fact.job, fact.generation);
    if (job == nullptr) return;
    for (GangMember& member : job->gang) {
      if (member.worker != fact.worker || member.outcome.has_value()) continue;
      member.outcome = fact.outcome;
      member.reason = fact.reason;
      member.rank = fact.rank;
      member.ended = fact.at;
      --state_.queues[job->request.queue].held_workers;
      Worker* worker = FindIn(state_.workers, fact.worker);
      if (worker == nullptr) continue;
      worker->placed.erase(job->id);
      // What its own agent reported as ended does not wait for the next heartbeat to free its
      // slots; what was given up (kHostLost) may well be there still.
      if (fact.outcome == MemberOutcome::kHostLost) continue;
      std::erase_if(worker->running, [&](const MemberReport& report) {
        return report.job == fact.job && report.generation == fact.generation;
      });
    }
    job->step = std::max(job->step, fact.step);
    if (!fact.weights_hash.empty()) job->weights_hash = fact.weights_hash;
  }

  void operator()(const GangReleased& fact) {
    Job* job = FindGang(fact.job, fact.generation);
    if (job == nullptr) return;
    job->stop = StopMode::kNone;
    job->stop_reason = {};
    job->counters = fact.counters;
    if (fact.last_failure.reason.code != ReasonCode::kNone) job->last_failure = fact.last_failure;
    if (fact.state != JobState::kSucceeded) job->weights_hash.clear();
    SetState(*job, fact.state, fact.reason, fact.at);
    SetDeadline(*job, fact.state == JobState::kQueued && fact.not_before > fact.at
                          ? fact.not_before
                          : absl::InfiniteFuture());
  }

  void operator()(const CheckpointRecorded& fact) {
    Job* job = FindIn(state_.jobs, fact.job);
    if (job == nullptr) return;
    // A step that was redone after a restart overwrote the older checkpoint of the same step.
    std::erase_if(job->checkpoints,
                  [&](const Checkpoint& older) { return older.step == fact.checkpoint.step; });
    job->checkpoints.push_back(fact.checkpoint);
    if (job->checkpoints.size() > kCheckpointsRemembered) {
      job->checkpoints.erase(job->checkpoints.begin());
    }
    job->step = std::max(job->step, fact.checkpoint.step);
    job->counters.failures_without_progress = 0;
    job->counters.losses_without_progress = 0;
  }

  // --- workers and queues ---

  void operator()(const WorkerRegistered& fact) {
    Worker& worker = state_.workers[fact.worker];
    if (worker.name.empty()) {
      worker.name = fact.worker;
      worker.registered = fact.at;
    }
    worker.offer = fact.offer;
  }

  void operator()(const WorkerDrainSet& fact) {
    Worker* worker = FindIn(state_.workers, fact.worker);
    if (worker == nullptr) return;
    worker->draining = fact.draining;
    worker->drain_reason = fact.reason;
    worker->drained_incarnation = fact.incarnation;
  }

  void operator()(const WorkerForgotten& fact) {
    Worker* worker = FindIn(state_.workers, fact.worker);
    if (worker == nullptr) return;
    SetDeadline(*worker, absl::InfiniteFuture());
    state_.workers.erase(fact.worker);
  }

  void operator()(const QueueSet& fact) {
    state_.queues[fact.settings.name].settings = fact.settings;
  }

  void operator()(const QueueDeleted& fact) { state_.queues.erase(fact.name); }

  // --- volatile ---

  void operator()(const AdoptionBegan& fact) {
    for (auto& [name, worker] : state_.workers) {
      worker.connection = WorkerConnection::kAbsent;
      worker.incarnation.clear();
      worker.sequence = 0;
      worker.running.clear();
      SetDeadline(worker, fact.adopt_until);
      for (auto& [id, placement] : worker.placed) {
        placement.seen = false;
        placement.missing_since = fact.at;
        placement.adopt_until = fact.adopt_until;
      }
    }
    for (auto& [id, job] : state_.jobs) {
      if (job.LiveMembers() > 0 && job.deadline < fact.adopt_until) {
        SetDeadline(job, fact.adopt_until);
      }
    }
    state_.gather_until = fact.gather_until;
  }

  void operator()(const WorkerConnected& fact) {
    Worker* worker = FindIn(state_.workers, fact.worker);
    if (worker == nullptr) return;
    if (worker->incarnation != fact.incarnation) worker->sequence = 0;
    worker->incarnation = fact.incarnation;
    worker->connection = WorkerConnection::kConnected;
    worker->lost_why.clear();
  }

  void operator()(const WorkerReported& fact) {
    Worker* worker = FindIn(state_.workers, fact.worker);
    if (worker == nullptr) return;
    worker->sequence = std::max(worker->sequence, fact.sequence);
    worker->running = fact.running;
    worker->last_seen = fact.at;
    SetDeadline(*worker, fact.deadline);
    for (auto& [id, placement] : worker->placed) {
      Job* job = FindIn(state_.jobs, id);
      if (job == nullptr) continue;
      const auto is_its = [&](const auto& member) {
        return member.job == job->id && member.generation == job->generation;
      };
      const auto runs = std::find_if(fact.running.begin(), fact.running.end(), is_its);
      if (runs != fact.running.end()) job->step = std::max(job->step, runs->step);
      if (runs != fact.running.end() || std::any_of(fact.ended.begin(), fact.ended.end(), is_its)) {
        placement.seen = true;
        placement.missing_since = absl::InfiniteFuture();
      } else if (placement.missing_since == absl::InfiniteFuture()) {
        placement.missing_since = fact.at;
      }
    }
  }

  void operator()(const WorkerDisconnected& fact) {
    Worker* worker = FindIn(state_.workers, fact.worker);
    if (worker == nullptr) return;
    worker->connection = WorkerConnection::kAbsent;
    SetDeadline(*worker, fact.deadline);
  }

  void operator()(const WorkerLost& fact) {
    Worker* worker = FindIn(state_.workers, fact.worker);
    if (worker == nullptr) return;
    worker->connection = WorkerConnection::kLost;
    worker->lost_why = fact.why;
    worker->running.clear();
    SetDeadline(*worker, fact.forget_at);
  }

  void operator()(const GatheringEnded&) { state_.gather_until = absl::InfinitePast(); }

  void operator()(const BackOffEnded& fact) {
    Job* job = FindIn(state_.jobs, fact.job);
    if (job != nullptr) SetDeadline(*job, absl::InfiniteFuture());
  }

  void operator()(const CoordinatorStalled& fact) {
    for (auto& [name, worker] : state_.workers) {
      if (worker.connection != WorkerConnection::kLost) {
        SetDeadline(worker, std::max(worker.deadline, fact.hear_until));
      }
    }
    for (auto& [id, job] : state_.jobs) {
      if (job.LiveMembers() > 0) {
        SetDeadline(job, std::max(job.deadline + fact.away, fact.hear_until));
      }
    }
  }

 private:
  Job* FindGang(JobId id, Generation generation) {
    Job* job = FindIn(state_.jobs, id);
    return job != nullptr && job->generation == generation ? job : nullptr;
  }

  // The indexes that depend on a job's state.
  void Enter(const Job& job) {
    Queue& queue = state_.queues[job.request.queue];
    queue.settings.name = job.request.queue;
    if (!IsFinished(job.state)) ++queue.jobs;
    if (job.state != JobState::kQueued) return;
    ++queue.queued_jobs;
    ++state_.queued_jobs;
    state_.lanes[{job.request.device_kind, job.request.queue}].insert(
        {-int64_t{job.request.priority}, job.id});
  }

  void Leave(const Job& job) {
    Queue* queue = FindIn(state_.queues, job.request.queue);
    if (queue != nullptr && !IsFinished(job.state)) --queue->jobs;
    if (job.state != JobState::kQueued) return;
    if (queue != nullptr) --queue->queued_jobs;
    --state_.queued_jobs;
    const LaneKey key{job.request.device_kind, job.request.queue};
    Lane& lane = state_.lanes[key];
    lane.erase({-int64_t{job.request.priority}, job.id});
    if (lane.empty()) state_.lanes.erase(key);
  }

  void SetState(Job& job, JobState to, const Reason& reason, absl::Time at) {
    job.reason = reason;
    if (job.state == to) return;
    Leave(job);
    job.state = to;
    job.changed = at;
    if (IsFinished(to)) job.finished = at;
    // A finished job does not bring a deleted queue back.
    if (!IsFinished(to)) Enter(job);
  }

  void SetDeadline(Job& job, absl::Time when) {
    state_.job_deadlines.erase({job.deadline, job.id});
    job.deadline = when;
    if (when != absl::InfiniteFuture()) state_.job_deadlines.insert({when, job.id});
  }

  void SetDeadline(Worker& worker, absl::Time when) {
    state_.worker_deadlines.erase({worker.deadline, worker.name});
    worker.deadline = when;
    if (when != absl::InfiniteFuture()) state_.worker_deadlines.insert({when, worker.name});
  }

  ClusterState& state_;
};

}  // namespace

int32_t Job::LiveMembers() const {
  return static_cast<int32_t>(std::count_if(gang.begin(), gang.end(), [](const GangMember& member) {
    return !member.outcome.has_value();
  }));
}

const GangMember* Job::FindMember(const WorkerName& worker) const {
  for (const GangMember& member : gang) {
    if (member.worker == worker) return &member;
  }
  return nullptr;
}

int32_t Worker::FreeSlots() const {
  int32_t free = offer.slots;
  for (const auto& [job, placement] : placed) free -= placement.slots;
  for (const MemberReport& report : running) {
    const auto known = placed.find(report.job);
    if (known == placed.end() || known->second.generation != report.generation) {
      free -= report.slots;
    }
  }
  return std::max(free, 0);
}

ClusterState::ClusterState() { queues[kDefaultQueue].settings.name = kDefaultQueue; }

const Job* ClusterState::FindJob(JobId id) const { return FindIn(jobs, id); }

const Job* ClusterState::FindJob(absl::string_view name) const {
  const size_t dash = name.rfind('-');
  int64_t number = 0;
  if (dash == absl::string_view::npos || !absl::SimpleAtoi(name.substr(dash + 1), &number)) {
    return nullptr;
  }
  const Job* job = FindJob(JobId(number));
  return job != nullptr && job->name == name ? job : nullptr;
}

const Worker* ClusterState::FindWorker(const WorkerName& name) const {
  return FindIn(workers, name);
}

const Queue* ClusterState::FindQueue(const QueueName& name) const { return FindIn(queues, name); }

absl::Status NoSuchQueue(const ClusterState& state, const QueueName& name) {
  constexpr size_t kMostNames = 20;
  std::vector<absl::string_view> names;
  for (const auto& [known, queue] : state.queues) {
    if (names.size() < kMostNames) names.push_back(known);
  }
  const size_t more = state.queues.size() - names.size();
  return absl::NotFoundError(absl::StrCat("there is no queue \"", name,
                                          "\"; there are: ", absl::StrJoin(names, ", "),
                                          more > 0 ? absl::StrCat(" and ", more, " more") : ""));
}

ClusterState RestoreState(std::vector<Job> jobs, std::vector<Worker> workers,
                          std::vector<QueueSettings> queues, JobId last_job) {
  ClusterState state;
  state.last_job = last_job;
  for (QueueSettings& queue : queues) state.queues[queue.name].settings = std::move(queue);
  for (Worker& stored : workers) {
    Worker& worker = state.workers[stored.name];
    worker.name = std::move(stored.name);
    worker.offer = std::move(stored.offer);
    worker.draining = stored.draining;
    worker.drain_reason = std::move(stored.drain_reason);
    worker.drained_incarnation = std::move(stored.drained_incarnation);
    worker.registered = stored.registered;
  }
  for (Job& job : jobs) Applier(state).Restore(std::move(job));
  return state;
}

void Apply(ClusterState& state, const Fact& fact) { std::visit(Applier(state), fact); }

}  // namespace weft::coordinator
