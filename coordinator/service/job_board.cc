#include "coordinator/service/job_board.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/log/log.h"
#include "coordinator/core/explain.h"
#include "coordinator/service/metric_names.h"
#include "coordinator/service/resource_names.h"
#include "coordinator/service/wire.h"

namespace weft::coordinator {
namespace {

constexpr absl::Duration kTick = absl::Seconds(1);

// A worker, a queue, or the number of a job that is gone.
std::string SubjectOf(const Fact& fact) {
  return std::visit(
      [](const auto& of_kind) -> std::string {
        if constexpr (requires { of_kind.job; }) {
          return absl::StrCat(of_kind.job.value());
        } else if constexpr (requires { of_kind.worker; }) {
          return of_kind.worker;
        } else if constexpr (requires { of_kind.settings; }) {
          return of_kind.settings.name;
        } else if constexpr (requires { of_kind.name; }) {
          return of_kind.name;
        } else {
          return "";
        }
      },
      fact);
}

}  // namespace

JobBoard::JobBoard(EventLoop& loop, Archive& archive, MetricsSink& metrics,
                   SteppedDown stepped_down)
    : loop_(loop),
      archive_(archive),
      sink_(metrics),
      metrics_(metrics),
      process_(metrics),
      stepped_down_(std::move(stepped_down)) {}

void JobBoard::Begin(const Driver& driver, const std::map<JobId, StepHistory::Summary>& summaries) {
  driver_ = &driver;
  for (const auto& [job, summary] : summaries) {
    if (driver.state().FindJob(job) != nullptr) {
      progress_[job].summary = summary;
    } else {
      leftovers_.insert(job);
    }
  }
  metrics_.Begin(driver.state(), loop_.clock().Now());
  process_.Measure();
  sink_.Set(kPendingEvents, {}, 0);
  tick_due_ = loop_.clock().Now() + kTick;
  timer_ = loop_.RunAt(tick_due_, [this] { Tick(); });
}

void JobBoard::End() {
  if (timer_.has_value()) loop_.Cancel(*timer_);
  timer_.reset();
}

void JobBoard::Tick() {
  const absl::Time now = loop_.clock().Now();
  sink_.Observe(kLoopLag, {}, std::max(0.0, absl::ToDoubleSeconds(now - tick_due_)));
  sink_.Set(kPendingEvents, {}, static_cast<double>(driver_->pending()));
  metrics_.Tick(driver_->state(), now);
  process_.Measure();
  tick_due_ = now + kTick;
  timer_ = loop_.RunAt(tick_due_, [this] { Tick(); });
}

template <class Call>
void JobBoard::ForEachWatcher(JobId job, Call call) {
  const auto found = watchers_.find(job);
  if (found == watchers_.end()) return;
  for (JobWatcher* const watcher : found->second) call(*watcher);
}

// What the operator reads: each change that lasts, as one line. And the archive of an earlier job
// with this number goes.
void JobBoard::OnFact(const Fact& fact, const ClusterState& state) {
  const JobId id = JobOf(fact);
  const Job* const job = state.FindJob(id);
  if (job != nullptr && std::holds_alternative<JobAdded>(fact) && leftovers_.erase(id) > 0) {
    archive_.Delete(id, job->name);
  }
  if (const auto* lost = std::get_if<WorkerLost>(&fact); lost != nullptr) {
    LogWarning("cluster", "WorkerLost", {{"worker", lost->worker}, {"why", lost->why}});
  } else if (!IsDurable(fact)) {
    return;
  } else if (job != nullptr) {
    LogInfo("cluster", FactName(fact),
            {{"job", job->name},
             {"generation", job->generation.value()},
             {"state", ToString(job->state)},
             {"reason", job->reason.text}});
  } else {
    LogInfo("cluster", FactName(fact), {{"about", SubjectOf(fact)}});
  }
}

void JobBoard::OnFacts(absl::Span<const Fact> facts, const ClusterState& state) {
  metrics_.OnFacts(facts, state);
  std::set<JobId> changed;
  for (const Fact& fact : facts) {
    OnFact(fact, state);
    if (const JobId job = JobOf(fact); job.value() > 0) changed.insert(job);
  }
  for (const JobId job : changed) {
    if (state.FindJob(job) == nullptr) progress_.erase(job);
    ForEachWatcher(job, [](JobWatcher& watcher) { watcher.OnJobChanged(); });
  }
}

void JobBoard::OnCommit(const absl::Status& status, int64_t facts, absl::Duration took) {
  sink_.Observe(kCommitSeconds, {absl::StatusCodeToString(status.code())},
                absl::ToDoubleSeconds(took));
  if (status.ok()) {
    sink_.Add(kCommittedFacts, {}, static_cast<double>(facts));
  } else {
    LogError("store", "facts could not be made durable", {{"error", status.ToString()}});
  }
}

void JobBoard::OnSteppedDown(const absl::Status& why) {
  LogError("driver", "this coordinator gives up", {{"reason", why.ToString()}});
  if (stepped_down_) stepped_down_(why);
}

void JobBoard::AddSteps(const Job& job, Generation generation, std::vector<v1::StepReport> steps,
                        Archive::Done<bool> done) {
  Progress& progress = progress_[job.id];
  if (std::exchange(progress.generation, job.generation) != job.generation) progress.heard = 0;
  const bool late = generation != job.generation || steps.back().step() < progress.heard;
  if (late) return archive_.FillSteps(job.id, std::move(steps), std::move(done));
  const auto first_new = std::find_if(
      steps.begin(), steps.end(),
      [&progress](const v1::StepReport& step) { return step.step() > progress.heard; });
  const absl::Span<const v1::StepReport> news =
      absl::MakeConstSpan(steps).subspan(static_cast<size_t>(first_new - steps.begin()));
  progress.heard = steps.back().step();
  const absl::Time now = loop_.clock().Now();
  for (const v1::StepReport& step : news) {
    metrics_.OnStep(job, step, /*repeated=*/step.step() <= progress.summary.furthest, now);
    progress.summary.Add(step);
    progress.recent_seconds = progress.recent_seconds == 0
                                  ? step.seconds()
                                  : 0.9 * progress.recent_seconds + 0.1 * step.seconds();
  }
  ForEachWatcher(job.id, [news](JobWatcher& watcher) { watcher.OnSteps(news); });
  archive_.AppendSteps(job.id, std::move(steps), std::move(done));
}

void JobBoard::LogsAppended(JobId job) {
  ForEachWatcher(job, [](JobWatcher& watcher) { watcher.OnLogsAppended(); });
}

v1::Job JobBoard::View(const Job& job, bool explain) const {
  v1::Job out;
  out.set_name(JobResource(job.name));
  out.mutable_spec()->ParseFromString(job.request.spec.str());  // ours, so it parses
  out.set_state(ToWire(job.state));
  out.set_reason(job.reason.text);
  const absl::Time now = loop_.clock().Now();
  if (explain && job.state == JobState::kQueued) {
    const auto explanation = Explain(driver_->state(), job.id, now);
    if (explanation.ok()) out.set_reason(explanation->summary);
  }
  *out.mutable_create_time() = ToWire(job.created);
  if (job.started < absl::InfiniteFuture()) *out.mutable_start_time() = ToWire(job.started);
  if (job.finished < absl::InfiniteFuture()) *out.mutable_end_time() = ToWire(job.finished);
  out.set_generation(job.generation.value());
  out.set_recoveries(job.counters.recoveries);
  for (const GangMember& member : job.gang) {
    if (!member.outcome.has_value()) out.add_workers(member.worker);
  }
  if (job.HasFailed()) *out.mutable_last_failure() = ToWire(job.last_failure);
  if (!job.checkpoints.empty()) out.set_checkpoint_step(job.checkpoints.back().step.value());
  out.set_weights_hash(job.weights_hash);
  const auto found = progress_.find(job.id);
  if (found == progress_.end()) return out;
  const StepHistory::Summary& summary = found->second.summary;
  *out.mutable_last_step() = summary.last;
  if (summary.first_loss.has_value()) out.set_first_loss(*summary.first_loss);
  if (summary.validation_loss.has_value()) out.set_validation_loss(*summary.validation_loss);
  *out.mutable_validation_metrics() = {summary.validation_metrics.begin(),
                                       summary.validation_metrics.end()};
  if (job.state == JobState::kRunning && found->second.recent_seconds > 0) {
    const auto left = std::max<int64_t>(0, out.spec().training().steps() - summary.last.step());
    *out.mutable_eta() =
        ToWire(absl::Seconds(static_cast<double>(left) * found->second.recent_seconds));
  }
  return out;
}

void JobBoard::AddWatcher(JobId job, JobWatcher* watcher) { watchers_[job].insert(watcher); }

void JobBoard::RemoveWatcher(JobId job, JobWatcher* watcher) {
  const auto found = watchers_.find(job);
  if (found == watchers_.end()) return;
  found->second.erase(watcher);
  if (found->second.empty()) watchers_.erase(found);
}

}  // namespace weft::coordinator
