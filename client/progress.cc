#include "client/progress.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/session.h"
#include "client/text.h"

namespace weft::client {
namespace {

bool IsText(const v1::Job& job) { return job.spec().data().has_text(); }

std::string Loss(const v1::Job& job, double loss) {
  // A token of text is a byte, and a nat is 1 / ln 2 bits.
  const std::string nats = absl::StrFormat("%.3f", loss);
  return IsText(job) ? absl::StrFormat("%s (%.2f bits/byte)", nats, loss / std::log(2.0)) : nats;
}

}  // namespace

std::string ProgressLine(const v1::Job& job) {
  std::string line = absl::StrCat(ShortName(job.name()), "  ", StateName(job.state()));
  const v1::StepReport& step = job.last_step();
  if (step.step() > 0) {
    absl::StrAppend(&line, "  step ", step.step(), "/", job.spec().training().steps(), "  loss ",
                    Loss(job, step.loss()));
    if (job.has_validation_loss()) {
      absl::StrAppend(&line, absl::StrFormat("  val %.3f", job.validation_loss()));
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

std::string Summary(const v1::Job& job) {
  std::string text = absl::StrCat(ShortName(job.name()), " ", StateName(job.state()));
  if (job.has_start_time() && job.has_end_time()) {
    absl::StrAppend(&text, " after ",
                    ShortDuration(FromProto(job.end_time()) - FromProto(job.start_time())));
  }
  if (!job.reason().empty()) absl::StrAppend(&text, ": ", job.reason());
  if (job.last_step().step() > 0) {
    absl::StrAppend(&text, "\n  loss ");
    if (job.has_first_loss()) absl::StrAppend(&text, Loss(job, job.first_loss()), " -> ");
    absl::StrAppend(&text, Loss(job, job.last_step().loss()), " in ", job.last_step().step(),
                    " steps");
    if (job.has_validation_loss()) {
      absl::StrAppend(&text, "\n  validation loss ", Loss(job, job.validation_loss()));
    }
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
