#include "worker/rank/rank_reporter.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/types/span.h"

namespace weft::worker {
namespace {

v1::MemberStatus::Phase PhaseOf(RunPhase phase) {
  switch (phase) {
    case RunPhase::kStarting:
      return v1::MemberStatus::PHASE_STARTING;
    case RunPhase::kRestoring:
      return v1::MemberStatus::PHASE_RESTORING;
    case RunPhase::kTraining:
      return v1::MemberStatus::PHASE_TRAINING;
    case RunPhase::kSaving:
      return v1::MemberStatus::PHASE_SAVING;
  }
  return v1::MemberStatus::PHASE_UNSPECIFIED;
}

v1::TimeByCause TimesOf(const TimeByCause& time) {
  const auto seconds = [&](TimeCause cause) { return absl::ToDoubleSeconds(time[cause]); };
  v1::TimeByCause out;
  out.set_compute(seconds(TimeCause::kCompute));
  out.set_exchange(seconds(TimeCause::kExchange));
  out.set_data(seconds(TimeCause::kData));
  out.set_checkpoint(seconds(TimeCause::kCheckpoint));
  out.set_evaluation(seconds(TimeCause::kEvaluation));
  out.set_restore(seconds(TimeCause::kRestore));
  return out;
}

void SetTime(absl::Time time, google::protobuf::Timestamp& into) {
  const int64_t nanoseconds = absl::ToUnixNanos(time);
  into.set_seconds(nanoseconds / 1'000'000'000);
  into.set_nanos(static_cast<int32_t>(nanoseconds % 1'000'000'000));
}

// One line of the job's log. The lines of a rank come in the order of its calls.
void Print(const std::string& line) {
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
}

// " | accuracy 0.875 | perplexity 1.31"; `part` stands before each name.
void AppendMetrics(absl::string_view part, absl::Span<const StepMetric> metrics,
                   std::string& line) {
  for (const StepMetric& metric : metrics) {
    if (metric.layer) continue;
    absl::StrAppendFormat(&line, " | %s%s %.4g", part,
                          absl::StrReplaceAll(metric.name, {{"_", " "}}), metric.value);
  }
}

void SetMetrics(absl::Span<const StepMetric> metrics,
                google::protobuf::RepeatedPtrField<v1::StepMetric>& into) {
  for (const StepMetric& metric : metrics) {
    v1::StepMetric& value = *into.Add();
    value.set_name(metric.name);
    if (metric.layer) value.set_layer(static_cast<int32_t>(*metric.layer));
    value.set_value(metric.value);
  }
}

std::string StepLine(const StepSummary& summary, int64_t total_steps) {
  const StepResult& step = summary.result;
  const double seconds = absl::ToDoubleSeconds(summary.time.Total());
  std::string line = absl::StrFormat("step %d/%d | loss %.4f", step.step, total_steps, step.loss);
  AppendMetrics("", step.metrics, line);
  absl::StrAppendFormat(&line,
                        " | gradient norm %.3f | learning rate %.3g | %.2f s | %.0f tokens/s",
                        step.gradient_norm, step.learning_rate, seconds,
                        static_cast<double>(summary.tokens) / seconds);
  if (summary.validation) {
    absl::StrAppendFormat(&line, " | validation loss %.4f", summary.validation->loss);
    AppendMetrics("validation ", summary.validation->metrics, line);
  }
  if (step.skipped) absl::StrAppend(&line, " | skipped: the gradient is not finite");
  return line;
}

}  // namespace

v1::MemberExit::Outcome OutcomeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
      return v1::MemberExit::OUTCOME_USER_ERROR;
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return v1::MemberExit::OUTCOME_PEER_LOST;
    case absl::StatusCode::kCancelled:
      return v1::MemberExit::OUTCOME_KILLED;
    default:
      return v1::MemberExit::OUTCOME_FAILED;
  }
}

void RankReporter::OnPhase(RunPhase phase, int64_t step) {
  phase_ = PhaseOf(phase);
  step_ = step;
  link_.SendPhase(phase_, step);
}

void RankReporter::OnStep(const StepSummary& summary) {
  const StepResult& result = summary.result;
  step_ = result.step;
  link_.SendPhase(phase_, step_);
  const v1::TimeByCause time = TimesOf(summary.time);
  v1::RankToAgent own;
  own.mutable_rank_step()->set_step(step_);
  *own.mutable_rank_step()->mutable_time() = time;
  link_.Send(own);
  if (!is_lead()) return;
  Print(StepLine(summary, place_.total_steps));
  v1::RankToAgent message;
  v1::StepReport& report = *message.mutable_step();
  report.set_step(result.step);
  report.set_loss(result.loss);
  report.set_gradient_norm(result.gradient_norm);
  report.set_learning_rate(result.learning_rate);
  report.set_tokens(summary.tokens);
  report.set_seconds(absl::ToDoubleSeconds(summary.time.Total()));
  *report.mutable_time() = time;
  report.set_skipped(result.skipped);
  SetMetrics(result.metrics, *report.mutable_metrics());
  if (summary.validation) {
    report.set_validation_loss(summary.validation->loss);
    SetMetrics(summary.validation->metrics, *report.mutable_validation_metrics());
  }
  SetTime(clock_.Now(), *report.mutable_end_time());
  link_.Send(message);
}

void RankReporter::OnCheckpoint(const SavedCheckpoint& saved) {
  v1::RankToAgent message;
  v1::Checkpoint& checkpoint = *message.mutable_checkpoint();
  checkpoint.set_step(saved.step);
  checkpoint.set_weights_hash(saved.weights_sha256);
  checkpoint.set_generation(place_.generation);
  SetTime(clock_.Now(), *checkpoint.mutable_create_time());
  const CheckpointId id = {.generation = place_.generation, .step = saved.step};
  if (const auto all = checkpoints_.List(); all.ok()) {
    for (const CheckpointSummary& summary : *all) {
      if (summary.id != id) continue;
      checkpoint.set_path(summary.path);
      checkpoint.set_bytes(summary.bytes);
    }
  }
  Print(absl::StrCat("checkpoint of step ", saved.step, " saved in ", checkpoint.path()));
  link_.Send(message);
}

void RankReporter::OnNotice(const std::string& notice) {
  if (is_lead()) Print(notice);
}

void RankReporter::OnEnd(const absl::StatusOr<RunOutcome>& outcome) {
  v1::RankToAgent message;
  v1::RankFinished& finished = *message.mutable_finished();
  finished.set_step(step_);
  if (outcome.ok()) {
    const bool all_done = outcome->end == RunOutcome::End::kFinished;
    finished.set_outcome(all_done ? v1::MemberExit::OUTCOME_SUCCEEDED
                                  : v1::MemberExit::OUTCOME_SAVED);
    finished.set_step(outcome->step);
    finished.set_weights_hash(outcome->weights_sha256);
    if (is_lead()) {
      Print(absl::StrCat(all_done ? "finished after step " : "saved and stopped after step ",
                         outcome->step, ", weights ", outcome->weights_sha256));
    }
  } else {
    finished.set_outcome(OutcomeOf(outcome.status()));
    finished.set_message(std::string(outcome.status().message()));
    Print(absl::StrCat("rank ", place_.rank, " failed: ", outcome.status().message()));
  }
  link_.Send(message);
}

}  // namespace weft::worker
