#include "coordinator/service/watch_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/rpc/field_violations.h"

namespace weft::coordinator {
namespace {

constexpr size_t kMaxStepsAMessage = 500;

}  // namespace

WatchStream::WatchStream(const ServiceContext& context, v1::WatchJobRequest request)
    : LoopStream(context.loop, context.streams), context_(context), request_(std::move(request)) {
  PostBegin();
}

void WatchStream::OnBegin() {
  const absl::StatusOr<const Job*> job = context_.FindJob("name", request_.name());
  if (!job.ok()) return End(job.status());
  if (request_.after_step() < -1) {
    return End(
        InvalidField("after_step", absl::StrCat(request_.after_step(),
                                                " is below -1; allowed: -1 for only new steps,"
                                                " 0 for all, or a step")));
  }
  job_ = (*job)->id;
  history_done_ = request_.after_step() == -1;
  history_sent_ = std::max<int64_t>(0, request_.after_step());
  context_.board.AddWatcher(*job_, this);
  Advance();
}

void WatchStream::OnJobChanged() {
  changed_ = true;
  Advance();
}

void WatchStream::OnSteps(absl::Span<const v1::StepReport> steps) {
  if (ended()) return;
  pending_.insert(pending_.end(), steps.begin(), steps.end());
  if (pending_.size() > kMaxPendingSteps) {
    // Every other one goes, the last one stays.
    size_t kept = 0;
    for (size_t i = (pending_.size() + 1) % 2; i < pending_.size(); i += 2) {
      if (kept != i) pending_[kept] = std::move(pending_[i]);
      ++kept;
    }
    pending_.resize(kept);
  }
  Advance();
}

void WatchStream::Advance() {
  if (ended() || writing()) return;
  const Job* const job = context_.driver.state().FindJob(*job_);
  if (job == nullptr) {
    return End(absl::NotFoundError(absl::StrCat(request_.name(), " was deleted")));
  }
  if (!history_.empty()) return Send(*job, history_);
  if (history_done_ && !pending_.empty()) return Send(*job, pending_);
  if (changed_) {
    std::vector<v1::StepReport> none;
    return Send(*job, none);
  }
  if (!history_done_) return ReadHistory();
  if (IsFinished(job->state)) End(absl::OkStatus());
}

void WatchStream::Send(const Job& job, std::vector<v1::StepReport>& steps) {
  v1::WatchJobResponse message;
  *message.mutable_job() = context_.board.View(job, /*explain=*/true);
  const size_t count = std::min(steps.size(), kMaxStepsAMessage);
  for (size_t i = 0; i < count; ++i) *message.add_steps() = std::move(steps[i]);
  steps.erase(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(count));
  changed_ = false;
  Write(std::move(message));
}

void WatchStream::ReadHistory() {
  if (reading_) return;
  reading_ = true;
  context_.archive.ReadSteps(*job_, history_sent_, kMaxStepsAMessage, /*max_points=*/0,
                             WhileAlive([this](absl::StatusOr<std::vector<v1::StepReport>> steps) {
                               reading_ = false;
                               OnHistory(std::move(steps));
                             }));
}

void WatchStream::OnHistory(absl::StatusOr<std::vector<v1::StepReport>> steps) {
  if (ended()) return;
  if (!steps.ok()) return End(steps.status());
  history_ = *std::move(steps);
  if (!history_.empty()) history_sent_ = history_.back().step();
  if (history_.size() < kMaxStepsAMessage) {
    history_done_ = true;
    // What came while the history was read, and stood in it already.
    std::erase_if(pending_,
                  [this](const v1::StepReport& step) { return step.step() <= history_sent_; });
  }
  Advance();
}

void WatchStream::OnEnd() {
  history_.clear();
  pending_.clear();
}

void WatchStream::OnClose() {
  if (job_.has_value()) context_.board.RemoveWatcher(*job_, this);
}

}  // namespace weft::coordinator
