#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/time/event_loop.h"

namespace weft {

// An EventLoop on a thread of its own, started by the constructor.
class RealEventLoop final : public EventLoop {
 public:
  // `name` is the thread's, as the system shows it: at most 15 characters.
  explicit RealEventLoop(const char* name = "loop");
  // Stops and joins. Must not run on the loop thread.
  ~RealEventLoop() override;

  void Post(absl::AnyInvocable<void()> task) override;
  TimerId RunAt(absl::Time when, absl::AnyInvocable<void()> task) override;
  void Cancel(TimerId timer) override;
  [[nodiscard]] bool InLoopThread() const override;
  [[nodiscard]] const Clock& clock() const override { return clock_; }

  // Runs what was posted before this call, then ends the thread. Later posts are dropped.
  // Idempotent.
  void Stop();
  // How long the oldest posted task has been waiting: the lag that metrics show. Any thread.
  [[nodiscard]] absl::Duration Lag() const;
  // How long the present task has been running, or the oldest one has been waiting: what health
  // checks watch, for a task that never ends holds up nobody while nothing is posted. Any thread.
  [[nodiscard]] absl::Duration Stuck() const;

 private:
  struct Task {
    absl::AnyInvocable<void()> run;
    absl::Time posted;
  };

  void Run(const char* name);
  // The next task to run, or nothing when the loop must end.
  bool Next(Task& task);
  [[nodiscard]] bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const RealClock clock_;
  mutable absl::Mutex mutex_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  // Ordered by time, then by timer: equal times run in the order of the calls.
  std::map<std::pair<absl::Time, TimerId>, absl::AnyInvocable<void()>> timers_
      ABSL_GUARDED_BY(mutex_);
  TimerId last_timer_ ABSL_GUARDED_BY(mutex_);
  absl::Time busy_since_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // infinite: idle
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<std::thread::id> loop_thread_;  // set by the thread itself
  std::thread thread_;
};

}  // namespace weft
