#include "client/progress.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/session.h"
#include "client/text.h"

namespace weft::client {
namespace {

using Metrics = google::protobuf::RepeatedPtrField<v1::StepMetric>;

const v1::StepMetric* Find(const Metrics& metrics, absl::string_view name) {
  for (const v1::StepMetric& metric : metrics) {
    if (metric.name() == name) return &metric;
  }
  return nullptr;
}

// "2.134", with the form that goes with it where the metrics have one: "2.134 (3.08 bits/byte)".
std::string Loss(double loss, const Metrics& metrics) {
  const std::string nats = absl::StrFormat("%.3f", loss);
  if (const auto* bits = Find(metrics, "bits_per_byte")) {
    return absl::StrFormat("%s (%.2f bits/byte)", nats, bits->value());
  }
  if (const auto* perplexity = Find(metrics, "perplexity")) {
    return absl::StrFormat("%s (perplexity %.4g)", nats, perplexity->value());
  }
  return nats;
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

}  // namespace

std::string ProgressLine(const v1::Job& job) {
  std::string line = absl::StrCat(ShortName(job.name()), "  ", StateName(job.state()));
  const v1::StepReport& step = job.last_step();
  if (step.step() > 0) {
    absl::StrAppend(&line, "  step ", step.step(), "/", job.spec().training().steps(), "  loss ",
                    Loss(step.loss(), step.metrics()));
    for (const std::string& score : Scores(step.metrics())) absl::StrAppend(&line, "  ", score);
    if (job.has_validation_loss()) {
      absl::StrAppend(&line, absl::StrFormat("  val %.3f", job.validation_loss()));
      for (const std::string& score : Scores(job.validation_metrics())) {
        absl::StrAppend(&line, "  val ", score);
      }
    }
    if (step.seconds() > 0) {
      absl::StrAppend(&line, "  ", Count(static_cast<double>(step.tokens()) / step.seconds()),
                      " tokens/s");
    }
  }
  if (job.has_eta()) {
    absl::StrAppend(&line, "  ETA ", ShortDuration(absl::Seconds(job.eta().seconds())));
  }
  if (job.recoveries() > 0) absl::StrAppend(&line, "  recoveries ", job.recoveries());
  if (!job.reason().empty() && job.state() != v1::Job::STATE_RUNNING) {
    absl::StrAppend(&line, "  ", job.reason());
  }
  return line;
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
  const bool changed = job.state() != last_state_ || job.reason() != last_reason_;
  const bool moved = job.last_step().step() != last_step_;
  if (live_) {
    std::string line = ProgressLine(job);
    if (static_cast<int>(line.size()) >= width_) line.resize(static_cast<size_t>(width_) - 1);
    // Back to the first column, the line, clear to the end.
    out_ << '\r' << line << "\x1b[K" << std::flush;
    line_open_ = true;
  } else if (changed || (moved && now - last_shown_ >= kPlainInterval)) {
    out_ << ProgressLine(job) << std::endl;
    last_shown_ = now;
  }
  last_state_ = job.state();
  last_reason_ = job.reason();
  last_step_ = job.last_step().step();
}

void ProgressPrinter::Finish() {
  if (line_open_) out_ << std::endl;
  line_open_ = false;
}

}  // namespace weft::client
