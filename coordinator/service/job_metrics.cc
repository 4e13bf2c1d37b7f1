#include "coordinator/service/job_metrics.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "coordinator/service/metric_names.h"
#include "coordinator/service/wire.h"

namespace weft::coordinator {
namespace {

// Where time goes: see kJobTime.
constexpr const char* kTimeCauses[] = {"compute",    "exchange", "data", "checkpoint",
                                       "evaluation", "restore",  "redo", "wait"};
// Why a gang may end before its job does.
constexpr ReasonCode kRecoveryCauses[] = {ReasonCode::kRankFailed, ReasonCode::kHostLost,
                                          ReasonCode::kPeerLost, ReasonCode::kDrain,
                                          ReasonCode::kStartTimeout};

double UnixSeconds(absl::Time time) { return absl::ToDoubleSeconds(time - absl::UnixEpoch()); }

bool HasSeries(const Job& job) { return job.generation.value() > 0 && !IsFinished(job.state); }

// The metric that a reported number is served as; null when it is for the history alone.
const Metric* MetricOf(absl::string_view reported) {
  if (reported == "accuracy") return &kJobAccuracy;
  if (reported == "bits_per_byte") return &kJobBitsPerByte;
  if (reported == "perplexity") return &kJobPerplexity;
  return nullptr;
}

}  // namespace

void JobMetrics::Begin(const Job& job, absl::Time now) {
  Follow(job);
  // No fact will tell of a gang that trains already, and one that hangs sends no step either.
  if (job.state == JobState::kRunning) ShowTraining(job, now);
}

void JobMetrics::Follow(const Job& job) {
  if (!HasSeries(job)) return End(job.id);
  const auto [found, added] = series_.try_emplace(job.id);
  Series& series = found->second;
  if (added) {
    series.name = job.name;
    Start(job);
  }
  if (added || series.state != job.state) {
    metrics_.Remove(kJobState, {job.name, ToString(series.state)});
    metrics_.Set(kJobState, {job.name, ToString(job.state)}, 1);
    series.state = job.state;
  }
  metrics_.Set(kJobGeneration, {job.name}, static_cast<double>(job.generation.value()));
  metrics_.Set(kJobWorkers, {job.name}, job.LiveMembers());
}

// Counters begin at 0, so that their first rise is seen as one.
void JobMetrics::Start(const Job& job) {
  metrics_.Set(kJobFacts, {job.name, job.request.queue}, 1);
  v1::JobSpec spec;
  spec.ParseFromString(job.request.spec.str());  // ours, so it parses
  metrics_.Set(kJobPlannedSteps, {job.name}, static_cast<double>(spec.training().steps()));
  metrics_.Set(kJobCheckpointEverySteps, {job.name},
               static_cast<double>(spec.checkpoint().every_steps()));
  for (const char* const cause : kTimeCauses) AddTime(job.name, cause, 0);
  for (const ReasonCode cause : kRecoveryCauses) {
    metrics_.Add(kJobRecoveries, {job.name, CauseName(cause)}, 0);
  }
  metrics_.Add(kJobCheckpoints, {job.name}, 0);
  metrics_.Add(kJobSkippedSteps, {job.name}, 0);
  metrics_.Add(kJobTokens, {job.name}, 0);
  ShowCheckpoint(job);
}

void JobMetrics::End(JobId id) {
  const auto found = series_.find(id);
  if (found == series_.end()) return;
  metrics_.RemoveAll("job_name", found->second.name);
  series_.erase(found);
}

void JobMetrics::OnFact(const Fact& fact, JobId id, const Job* job) {
  if (const auto* placed = std::get_if<GangPlaced>(&fact);
      placed != nullptr && job != nullptr && placed->generation.value() == 1) {
    const double waited = absl::ToDoubleSeconds(placed->at - job->created);
    metrics_.Observe(kQueueWait, {job->request.queue}, waited);
    if (HasSeries(*job)) AddTime(job->name, "wait", waited);
  }
  if (const auto* released = std::get_if<GangReleased>(&fact);
      released != nullptr && job != nullptr && released->state == JobState::kQueued) {
    CountRecovery(*released, *job);
  }
  if (job == nullptr) return End(id);
  Follow(*job);
  const auto found = series_.find(id);
  if (found != series_.end()) Changed(fact, *job, found->second);
}

void JobMetrics::CountRecovery(const GangReleased& released, const Job& job) {
  const ReasonCode failure = released.last_failure.reason.code;
  const std::string cause =
      CauseName(failure != ReasonCode::kNone ? failure : released.reason.code);
  metrics_.Add(kRecoveries, {cause}, 1);
  if (!series_.contains(job.id)) return;
  metrics_.Add(kJobRecoveries, {job.name, cause}, 1);
  metrics_.Set(kJobRecoveryTime, {job.name}, UnixSeconds(released.at));
}

void JobMetrics::Changed(const Fact& fact, const Job& job, Series& series) {
  if (const auto* stopping = std::get_if<GangStopping>(&fact); stopping != nullptr) {
    series.ending = std::min(series.ending, stopping->at);
  } else if (const auto* ended = std::get_if<MemberEnded>(&fact); ended != nullptr) {
    series.ending = std::min(series.ending, ended->at);
  } else if (const auto* running = std::get_if<GangRunning>(&fact); running != nullptr) {
    OnRunning(*running, job, series);
  } else if (std::holds_alternative<CheckpointRecorded>(fact)) {
    metrics_.Add(kJobCheckpoints, {job.name}, 1);
    ShowCheckpoint(job);
  } else if (job.state == JobState::kPaused) {
    series.ending = absl::InfiniteFuture();  // what follows is no recovery
  }
}

void JobMetrics::OnRunning(const GangRunning& running, const Job& job, Series& series) {
  ShowTraining(job, running.at);
  if (series.ending < absl::InfiniteFuture()) {
    metrics_.Observe(kRecoverySeconds, {}, absl::ToDoubleSeconds(running.at - series.ending));
  }
  series.ending = absl::InfiniteFuture();
}

void JobMetrics::ShowTraining(const Job& job, absl::Time at) {
  metrics_.Set(kJobStepTime, {job.name}, UnixSeconds(at));
  metrics_.Set(kJobRunningSince, {job.name}, UnixSeconds(at));
}

void JobMetrics::ShowCheckpoint(const Job& job) {
  if (job.checkpoints.empty()) return;
  const Checkpoint& newest = job.checkpoints.back();
  metrics_.Set(kCheckpointTime, {job.name}, UnixSeconds(newest.published));
  metrics_.Set(kJobCheckpointStep, {job.name}, static_cast<double>(newest.step.value()));
  metrics_.Set(kJobCheckpointBytes, {job.name}, static_cast<double>(newest.bytes));
}

void JobMetrics::AddTime(const std::string& job, absl::string_view cause, double seconds) {
  if (seconds >= 0) metrics_.Add(kJobTime, {job, cause}, seconds);
}

void JobMetrics::OnStep(const Job& job, const v1::StepReport& step, bool repeated, absl::Time now) {
  if (!HasSeries(job)) return;
  metrics_.Set(kJobLoss, {job.name}, step.loss());
  metrics_.Set(kJobGradientNorm, {job.name}, step.gradient_norm());
  metrics_.Set(kJobLearningRate, {job.name}, step.learning_rate());
  metrics_.Set(kJobStep, {job.name}, static_cast<double>(step.step()));
  metrics_.Set(kJobStepTime, {job.name}, UnixSeconds(now));
  if (step.has_validation_loss()) {
    metrics_.Set(kJobValidationLoss, {job.name}, step.validation_loss());
  }
  for (const v1::StepMetric& reported : step.metrics()) {
    if (reported.name() == "graph_density" && reported.has_layer()) {
      metrics_.Set(kJobGraphDensity, {job.name, absl::StrCat(reported.layer())}, reported.value());
    }
    const Metric* const metric = MetricOf(reported.name());
    if (metric != nullptr) metrics_.Set(*metric, {job.name, "train"}, reported.value());
  }
  for (const v1::StepMetric& reported : step.validation_metrics()) {
    const Metric* const metric = MetricOf(reported.name());
    if (metric != nullptr) metrics_.Set(*metric, {job.name, "validation"}, reported.value());
  }
  if (step.tokens() > 0) metrics_.Add(kJobTokens, {job.name}, static_cast<double>(step.tokens()));
  if (step.skipped()) metrics_.Add(kJobSkippedSteps, {job.name}, 1);
  metrics_.Observe(kJobStepSeconds, {job.name}, step.seconds());
  if (repeated) return AddTime(job.name, "redo", step.seconds());
  AddTime(job.name, "compute", step.time().compute());
  AddTime(job.name, "exchange", step.time().exchange());
  AddTime(job.name, "data", step.time().data());
  AddTime(job.name, "checkpoint", step.time().checkpoint());
  AddTime(job.name, "evaluation", step.time().evaluation());
  AddTime(job.name, "restore", step.time().restore());
}

void JobMetrics::Tick(const ClusterState& state, absl::Time now) {
  if (last_tick_ > absl::InfinitePast()) {
    const double elapsed = absl::ToDoubleSeconds(now - last_tick_);
    for (const auto& [id, series] : series_) {
      const Job* const job = state.FindJob(id);
      if (job == nullptr) continue;
      if (job->state == JobState::kQueued || job->state == JobState::kStarting) {
        AddTime(series.name, "wait", elapsed);
      }
    }
  }
  last_tick_ = now;
}

}  // namespace weft::coordinator
