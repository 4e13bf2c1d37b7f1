#include "client/progress.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/session.h"
#include "client/text.h"
#include "common/base/utf8.h"

namespace weft::client {
namespace {

using Metrics = google::protobuf::RepeatedPtrField<v1::StepMetric>;

const v1::StepMetric* Find(const Metrics& metrics, absl::string_view name) {
  for (const v1::StepMetric& metric : metrics) {
    if (metric.name() == name) return &metric;
  }
  return nullptr;
}

// The form that goes with a loss where the metrics have one: " (3.08 bits/byte)".
std::string FormOfLoss(const Metrics& metrics) {
  if (const auto* bits = Find(metrics, "bits_per_byte")) {
    return absl::StrFormat(" (%.2f bits/byte)", bits->value());
  }
  if (const auto* perplexity = Find(metrics, "perplexity")) {
    return absl::StrFormat(" (perplexity %.4g)", perplexity->value());
  }
  return "";
}

// "2.134 (3.08 bits/byte)".
std::string Loss(double loss, const Metrics& metrics) {
  return absl::StrCat(absl::StrFormat("%.3f", loss), FormOfLoss(metrics));
}

// The metrics that are no form of the loss: "accuracy 0.912". Nobody asks for the share of bytes of
// a text that were guessed right.
std::vector<std::string> Scores(const Metrics& metrics) {
  std::vector<std::string> scores;
  for (const v1::StepMetric& metric : metrics) {
    if (metric.has_layer() || metric.name() == "bits_per_byte" || metric.name() == "perplexity")
      continue;
    if (metric.name() == "accuracy" && Find(metrics, "bits_per_byte") != nullptr) continue;
    scores.push_back(absl::StrFormat("%s %.3f", absl::StrReplaceAll(metric.name(), {{"_", " "}}),
                                     metric.value()));
  }
  return scores;
}

// A part of a line, with the blanks before it.
struct Part {
  std::string text;
  int spare = 0;  // the highest goes first when a line is too long; 0 stays
};

std::vector<Part> PartsOfStep(const v1::Job& job) {
  const v1::StepReport& step = job.last_step();
  std::vector<Part> parts = {
      {absl::StrCat("  step ", step.step(), "/", job.spec().training().steps(),
                    absl::StrFormat("  loss %.3f", step.loss()))},
      {FormOfLoss(step.metrics()), 5}};
  for (const std::string& score : Scores(step.metrics())) {
    parts.push_back({absl::StrCat("  ", score), 3});
  }
  if (job.has_validation_loss()) {
    parts.push_back({absl::StrFormat("  val %.3f", job.validation_loss()), 2});
    for (const std::string& score : Scores(job.validation_metrics())) {
      parts.push_back({absl::StrCat("  val ", score), 4});
    }
  }
  if (step.seconds() > 0) {
    const double speed = static_cast<double>(step.tokens()) / step.seconds();
    parts.push_back({absl::StrCat("  ", Count(speed), " tokens/s"), 3});
  }
  return parts;
}

size_t LengthOf(const std::vector<Part>& parts) {
  size_t length = 0;
  for (const Part& part : parts) length += part.text.size();
  return length;
}

}  // namespace

std::string ProgressLine(const v1::Job& job, size_t characters) {
  std::vector<Part> parts = {{absl::StrCat(ShortName(job.name()), "  ", StateName(job.state()))}};
  if (job.last_step().step() > 0) {
    for (Part& part : PartsOfStep(job)) parts.push_back(std::move(part));
  }
  if (job.has_eta()) {
    const std::string left = ShortDuration(absl::Seconds(job.eta().seconds()));
    parts.push_back({absl::StrCat("  ETA ", left), 1});
  }
  if (job.recoveries() > 0) parts.push_back({absl::StrCat("  recoveries ", job.recoveries()), 1});
  if (!job.reason().empty() && job.state() != v1::Job::STATE_RUNNING) {
    parts.push_back({absl::StrCat("  ", job.reason())});
  }
  while (LengthOf(parts) > characters) {
    const auto least = std::max_element(
        parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.spare < b.spare; });
    if (least->spare == 0) break;
    parts.erase(least);
  }
  std::string line;
  for (const Part& part : parts) absl::StrAppend(&line, part.text);
  return std::string(Utf8Prefix(line, characters));
}

std::string ScoresOf(const v1::StepReport& step) {
  std::vector<std::string> all = Scores(step.metrics());
  if (const auto* bits = Find(step.metrics(), "bits_per_byte")) {
    all.insert(all.begin(), absl::StrFormat("%.2f bits/byte", bits->value()));
  }
  if (const auto* perplexity = Find(step.metrics(), "perplexity")) {
    all.insert(all.begin(), absl::StrFormat("perplexity %.4g", perplexity->value()));
  }
  return absl::StrJoin(all, ", ");
}

std::string FailureText(const v1::Failure& failure, absl::Time now) {
  const std::string when =
      failure.has_time() ? absl::StrCat(Age(failure.time(), now), " ago ") : "";
  return absl::StrCat(when, "in generation ", failure.generation(), ": ", failure.reason());
}

std::string Summary(const v1::Job& job) {
  std::string text = absl::StrCat(ShortName(job.name()), " ", StateName(job.state()));
  if (job.has_start_time() && job.has_end_time()) {
    absl::StrAppend(&text, " after ",
                    ShortDuration(FromProto(job.end_time()) - FromProto(job.start_time())));
  }
  if (!job.reason().empty()) absl::StrAppend(&text, ": ", job.reason());
  if (job.last_step().step() > 0) {
    absl::StrAppend(&text, "\n  loss ");
    const v1::StepReport& last = job.last_step();
    if (job.has_first_loss()) absl::StrAppendFormat(&text, "%.3f -> ", job.first_loss());
    absl::StrAppend(&text, Loss(last.loss(), last.metrics()), " in ", last.step(), " steps");
    for (const std::string& score : Scores(last.metrics())) absl::StrAppend(&text, "\n  ", score);
    if (job.has_validation_loss()) {
      absl::StrAppend(&text, "\n  validation loss ",
                      Loss(job.validation_loss(), job.validation_metrics()));
      for (const std::string& score : Scores(job.validation_metrics())) {
        absl::StrAppend(&text, "\n  validation ", score);
      }
    }
  }
  // A FAILED job's reason holds it.
  if (job.has_last_failure() && job.state() != v1::Job::STATE_FAILED) {
    absl::StrAppend(&text, "\n  recoveries ", job.recoveries(),
                    "; last failure: ", job.last_failure().reason());
  }
  if (job.checkpoint_step() > 0) {
    absl::StrAppend(&text, "\n  checkpoint at step ", job.checkpoint_step());
  }
  if (!job.weights_hash().empty()) {
    absl::StrAppend(&text, "\n  weights ", job.weights_hash().substr(0, 16));
  }
  return text;
}

void ProgressPrinter::Show(const v1::Job& job, absl::Time now) {
  const absl::MutexLock lock(&mutex_);
  if (silent_) return;
  const bool changed = job.state() != last_state_ || job.reason() != last_reason_ ||
                       std::exchange(problem_shown_, false);
  const bool moved = job.last_step().step() != last_step_;
  if (live_) {
    Overwrite(ProgressLine(job, static_cast<size_t>(width_) - 1));
  } else if (changed || (moved && now - last_shown_ >= kPlainInterval)) {
    out_ << ProgressLine(job) << std::endl;
    last_shown_ = now;
  }
  last_state_ = job.state();
  last_reason_ = job.reason();
  last_step_ = job.last_step().step();
}

void ProgressPrinter::ShowProblem(const std::string& text) {
  const absl::MutexLock lock(&mutex_);
  if (silent_ || std::exchange(problem_shown_, true)) return;
  if (live_) {
    Overwrite(std::string(Utf8Prefix(text, static_cast<size_t>(width_) - 1)));
  } else {
    out_ << text << std::endl;
  }
}

void ProgressPrinter::Overwrite(const std::string& line) {
  // Back to the first column, the line, clear to the end.
  out_ << '\r' << line << "\x1b[K" << std::flush;
  line_open_ = true;
}

void ProgressPrinter::Finish() {
  const absl::MutexLock lock(&mutex_);
  EndLine();
}

void ProgressPrinter::Silence() {
  const absl::MutexLock lock(&mutex_);
  EndLine();
  silent_ = true;
}

void ProgressPrinter::EndLine() {
  if (line_open_) out_ << std::endl;
  line_open_ = false;
}

}  // namespace weft::client
