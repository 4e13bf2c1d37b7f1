#include "coordinator/service/cluster_metrics.h"

#include "absl/strings/ascii.h"
#include "coordinator/service/metric_names.h"

namespace weft::coordinator {
namespace {

constexpr JobState kJobStates[] = {JobState::kQueued,    JobState::kStarting, JobState::kRunning,
                                   JobState::kPausing,   JobState::kPaused,   JobState::kCancelling,
                                   JobState::kSucceeded, JobState::kFailed,   JobState::kCancelled};

// Where time goes: see kJobTime.
constexpr const char* kCauses[] = {"compute",    "exchange", "data", "checkpoint",
                                   "evaluation", "restore",  "redo", "wait"};

double UnixSeconds(absl::Time time) { return absl::ToDoubleSeconds(time - absl::UnixEpoch()); }

bool HasSeries(const Job& job) { return job.generation.value() > 0 && !IsFinished(job.state); }

// "HOST_LOST" -> "host_lost".
std::string CauseName(ReasonCode code) { return absl::AsciiStrToLower(ToString(code)); }

}  // namespace

void ClusterMetrics::Begin(const ClusterState& state, absl::Time now) {
  for (const auto& [id, job] : state.jobs) Follow(job);
  Tick(state, now);
}

void ClusterMetrics::OnFacts(absl::Span<const Fact> facts, const ClusterState& state) {
  for (const Fact& fact : facts) OnFact(fact, state);
}

void ClusterMetrics::OnFact(const Fact& fact, const ClusterState& state) {
  const JobId id = JobOf(fact);
  const Job* const job = state.FindJob(id);
  if (IsDurable(fact)) jobs_changed_ = true;
  if (id.value() > 0) {
    if (job != nullptr) {
      Follow(*job);
    } else if (const auto placed = placed_.find(id); placed != placed_.end()) {
      metrics_.RemoveAll("job", placed->second);
      placed_.erase(placed);
    }
  }
  if (const auto* placed = std::get_if<GangPlaced>(&fact);
      placed != nullptr && job != nullptr && placed->generation.value() == 1) {
    const double waited = absl::ToDoubleSeconds(placed->at - job->created);
    metrics_.Observe(kQueueWait, {}, waited);
    if (HasSeries(*job)) {
      for (const char* const cause : kCauses) AddTime(*job, cause, 0);  // from the first scrape on
      AddTime(*job, "wait", waited);
    }
  } else if (const auto* released = std::get_if<GangReleased>(&fact);
             released != nullptr && released->state == JobState::kQueued) {
    const ReasonCode failure = released->last_failure.code;
    metrics_.Add(kRecoveries,
                 {CauseName(failure != ReasonCode::kNone ? failure : released->reason.code)}, 1);
  } else if (const auto* recorded = std::get_if<CheckpointRecorded>(&fact);
             recorded != nullptr && job != nullptr && HasSeries(*job)) {
    metrics_.Set(kCheckpointTime, {job->name}, UnixSeconds(recorded->checkpoint.published));
  } else if (const auto* deleted = std::get_if<QueueDeleted>(&fact); deleted != nullptr) {
    metrics_.RemoveAll("queue", deleted->name);
  }
}

void ClusterMetrics::Follow(const Job& job) {
  if (HasSeries(job)) {
    placed_.emplace(job.id, job.name);
  } else if (placed_.erase(job.id) > 0) {
    metrics_.RemoveAll("job", job.name);
  }
}

void ClusterMetrics::AddTime(const Job& job, absl::string_view cause, double seconds) {
  if (seconds >= 0) metrics_.Add(kJobTime, {job.name, cause}, seconds);
}

void ClusterMetrics::OnStep(const Job& job, const v1::StepReport& step, bool repeated) {
  if (!HasSeries(job)) return;
  metrics_.Set(kJobLoss, {job.name}, step.loss());
  metrics_.Set(kJobStep, {job.name}, static_cast<double>(step.step()));
  if (step.has_validation_loss()) {
    metrics_.Set(kJobValidationLoss, {job.name}, step.validation_loss());
  }
  if (step.tokens() > 0) metrics_.Add(kJobTokens, {job.name}, static_cast<double>(step.tokens()));
  metrics_.Observe(kJobStepSeconds, {job.name}, step.seconds());
  if (repeated) return AddTime(job, "redo", step.seconds());
  AddTime(job, "compute", step.time().compute());
  AddTime(job, "exchange", step.time().exchange());
  AddTime(job, "data", step.time().data());
  AddTime(job, "checkpoint", step.time().checkpoint());
  AddTime(job, "evaluation", step.time().evaluation());
  AddTime(job, "restore", step.time().restore());
}

void ClusterMetrics::Tick(const ClusterState& state, absl::Time now) {
  CountJobs(state);
  CountWorkers(state, now);
  CountWaiting(state, now);
  last_tick_ = now;
}

void ClusterMetrics::CountJobs(const ClusterState& state) {
  if (!jobs_changed_) return;
  jobs_changed_ = false;
  std::map<QueueName, std::map<JobState, int64_t>> counts;
  for (const auto& [name, queue] : state.queues) {
    for (const JobState each : kJobStates) counts[name][each] = 0;
  }
  for (const auto& [id, job] : state.jobs) ++counts[job.request.queue][job.state];
  for (const auto& [queue, by_state] : counts) {
    for (const auto& [each, count] : by_state) {
      metrics_.Set(kJobCount, {ToString(each), queue}, static_cast<double>(count));
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
    if (worker.connection != WorkerConnection::kConnected) {
      ++lost;
    } else if (!worker.draining) {
      ++ready;
    } else if (worker.IsDrained()) {
      ++drained;
    } else {
      ++draining;
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

void ClusterMetrics::CountWaiting(const ClusterState& state, absl::Time now) {
  if (last_tick_ == absl::InfinitePast()) return;
  const double elapsed = absl::ToDoubleSeconds(now - last_tick_);
  for (const auto& [id, name] : placed_) {
    const Job* const job = state.FindJob(id);
    if (job != nullptr && (job->state == JobState::kQueued || job->state == JobState::kStarting)) {
      AddTime(*job, "wait", elapsed);
    }
  }
}

}  // namespace weft::coordinator
