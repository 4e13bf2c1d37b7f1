// The line that shows how a job goes: one live line on a terminal, plain lines elsewhere.
#pragma once

#include <ostream>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "weft/v1/job.pb.h"

namespace weft::client {

// "demo-1  RUNNING  step 120/400  loss 2.134 (3.08 bits/byte)  val 2.201  12.3k tokens/s  ETA 41s".
// Jobs of other tasks show their own metrics: "loss 0.310 (perplexity 1.36)  accuracy 0.912".
// Within so many characters: what matters least is left out first.
std::string ProgressLine(const v1::Job& job, size_t characters = std::string::npos);

// A step's metrics in a few words: "perplexity 1.36, accuracy 0.912".
std::string ScoresOf(const v1::StepReport& step);

// "3m20s ago in generation 1: worker w1: rank 0 was killed by SIGKILL".
std::string FailureText(const v1::Failure& failure, absl::Time now);

// The last words on a job: how it ended, from which loss to which, where its checkpoint is.
std::string Summary(const v1::Job& job);

// Any thread.
class ProgressPrinter {
 public:
  // `live`: the line is overwritten in place, within `width` columns.
  ProgressPrinter(std::ostream& out, bool live, int width)
      : out_(out), width_(width), live_(live) {}

  // Shows the job; plain lines come at most once a `kPlainInterval`, but every change of state
  // does.
  void Show(const v1::Job& job, absl::Time now);
  // Says, once until the job is shown again, why it is not known how the job goes.
  void ShowProblem(const std::string& text);
  // Ends the live line, so that other output starts on a fresh one.
  void Finish();
  // The same, and nothing is shown from now on.
  void Silence();

  static constexpr absl::Duration kPlainInterval = absl::Seconds(2);

 private:
  void Overwrite(const std::string& line) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLine() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::ostream& out_;
  const int width_;
  const bool live_;
  absl::Mutex mutex_;
  bool silent_ ABSL_GUARDED_BY(mutex_) = false;
  bool line_open_ ABSL_GUARDED_BY(mutex_) = false;
  bool problem_shown_ ABSL_GUARDED_BY(mutex_) = false;
  v1::Job::State last_state_ ABSL_GUARDED_BY(mutex_) = v1::Job::STATE_UNSPECIFIED;
  std::string last_reason_ ABSL_GUARDED_BY(mutex_);
  int64_t last_step_ ABSL_GUARDED_BY(mutex_) = -1;
  absl::Time last_shown_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

}  // namespace weft::client
