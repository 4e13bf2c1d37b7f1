#include "coordinator/service/cluster_metrics.h"

#include <algorithm>
#include <map>

#include "coordinator/service/metric_names.h"

namespace weft::coordinator {
namespace {

constexpr JobState kJobStates[] = {JobState::kQueued,    JobState::kStarting, JobState::kRunning,
                                   JobState::kPausing,   JobState::kPaused,   JobState::kCancelling,
                                   JobState::kSucceeded, JobState::kFailed,   JobState::kCancelled};

}  // namespace

void ClusterMetrics::Begin(const ClusterState& state, absl::Time now) {
  for (const auto& [id, job] : state.jobs) jobs_.Begin(job, now);
  Tick(state, now);
}

void ClusterMetrics::OnFacts(absl::Span<const Fact> facts, const ClusterState& state) {
  for (const Fact& fact : facts) OnFact(fact, state);
}

void ClusterMetrics::OnFact(const Fact& fact, const ClusterState& state) {
  if (IsDurable(fact)) jobs_changed_ = true;
  if (const JobId id = JobOf(fact); id.value() > 0) jobs_.OnFact(fact, id, state.FindJob(id));
  if (const auto* deleted = std::get_if<QueueDeleted>(&fact); deleted != nullptr) {
    metrics_.RemoveAll("queue", deleted->name);
    waiting_since_.erase(deleted->name);
  }
}

void ClusterMetrics::Tick(const ClusterState& state, absl::Time now) {
  CountJobs(state, now);
  CountWorkers(state, now);
  CountSlots(state);
  jobs_.Tick(state, now);
}

void ClusterMetrics::CountJobs(const ClusterState& state, absl::Time now) {
  if (jobs_changed_) {
    jobs_changed_ = false;
    waiting_since_.clear();
    std::map<QueueName, std::map<JobState, int64_t>> counts;
    for (const auto& [name, queue] : state.queues) {
      for (const JobState each : kJobStates) counts[name][each] = 0;
      waiting_since_[name] = absl::InfiniteFuture();
    }
    for (const auto& [id, job] : state.jobs) {
      ++counts[job.request.queue][job.state];
      if (job.state != JobState::kQueued) continue;
      absl::Time& since = waiting_since_[job.request.queue];
      since = std::min(since, job.changed);
    }
    for (const auto& [queue, by_state] : counts) {
      for (const auto& [each, count] : by_state) {
        metrics_.Set(kJobCount, {ToString(each), queue}, static_cast<double>(count));
      }
    }
  }
  for (const auto& [queue, since] : waiting_since_) {
    metrics_.Set(kOldestWait, {queue}, std::max(0.0, absl::ToDoubleSeconds(now - since)));
  }
  for (const auto& [name, queue] : state.queues) {
    metrics_.Set(kHeldWorkers, {name}, queue.held_workers);
    if (const int32_t limit = queue.settings.max_workers; limit > 0) {
      metrics_.Set(kWorkerLimit, {name}, limit);
    } else {
      metrics_.Remove(kWorkerLimit, {name});
    }
  }
}

void ClusterMetrics::CountWorkers(const ClusterState& state, absl::Time now) {
  int64_t ready = 0;
  int64_t draining = 0;
  int64_t drained = 0;
  int64_t lost = 0;
  std::set<std::string> present;
  for (const auto& [name, worker] : state.workers) {
    present.insert(name);
    if (worker.IsDrained()) {
      ++drained;  // connected or not: nobody misses it
    } else if (worker.connection != WorkerConnection::kConnected) {
      ++lost;
    } else if (worker.draining) {
      ++draining;
    } else {
      ++ready;
    }
    if (worker.last_seen > absl::InfinitePast()) {
      metrics_.Set(kHeartbeatAge, {name}, absl::ToDoubleSeconds(now - worker.last_seen));
    }
  }
  metrics_.Set(kWorkerCount, {"READY"}, static_cast<double>(ready));
  metrics_.Set(kWorkerCount, {"DRAINING"}, static_cast<double>(draining));
  metrics_.Set(kWorkerCount, {"DRAINED"}, static_cast<double>(drained));
  metrics_.Set(kWorkerCount, {"LOST"}, static_cast<double>(lost));
  for (const std::string& name : workers_) {
    if (!present.contains(name)) metrics_.RemoveAll("worker", name);
  }
  workers_ = std::move(present);
}

void ClusterMetrics::CountSlots(const ClusterState& state) {
  struct Slots {
    int64_t free = 0;
    int64_t used = 0;
  };
  std::map<std::string, Slots> slots;
  for (const std::string& kind : device_kinds_) slots[kind];  // what is gone becomes 0
  for (const auto& [name, worker] : state.workers) {
    if (worker.connection != WorkerConnection::kConnected) continue;
    const int32_t free = worker.FreeSlots();
    Slots& of_kind = slots[worker.offer.device_kind];
    of_kind.used += worker.offer.slots - free;
    if (!worker.draining) of_kind.free += free;
  }
  for (const auto& [kind, counts] : slots) {
    device_kinds_.insert(kind);
    metrics_.Set(kSlots, {kind, "free"}, static_cast<double>(counts.free));
    metrics_.Set(kSlots, {kind, "used"}, static_cast<double>(counts.used));
  }
}

}  // namespace weft::coordinator
