#include "common/time/real_event_loop.h"

#include <pthread.h>

#include <algorithm>

#include "common/base/check.h"

namespace weft {

RealEventLoop::RealEventLoop(const char* name) : thread_([this, name] { Run(name); }) {}

RealEventLoop::~RealEventLoop() { Stop(); }

void RealEventLoop::Post(absl::AnyInvocable<void()> task) {
  const absl::MutexLock lock(&mutex_);
  if (stopping_) return;
  tasks_.push_back(Task{std::move(task), clock_.Now()});
}

TimerId RealEventLoop::RunAt(absl::Time when, absl::AnyInvocable<void()> task) {
  WEFT_CHECK(InLoopThread());
  const absl::MutexLock lock(&mutex_);
  last_timer_ = last_timer_.Next();
  timers_.emplace(std::make_pair(when, last_timer_), std::move(task));
  return last_timer_;
}

void RealEventLoop::Cancel(TimerId timer) {
  WEFT_CHECK(InLoopThread());
  const absl::MutexLock lock(&mutex_);
  for (auto it = timers_.begin(); it != timers_.end(); ++it) {
    if (it->first.second == timer) {
      timers_.erase(it);
      return;
    }
  }
}

bool RealEventLoop::InLoopThread() const {
  return std::this_thread::get_id() == loop_thread_.load();
}

void RealEventLoop::Stop() {
  {
    const absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) {
    WEFT_CHECK(!InLoopThread());
    thread_.join();
  }
}

absl::Duration RealEventLoop::Lag() const {
  const absl::MutexLock lock(&mutex_);
  return tasks_.empty() ? absl::ZeroDuration() : clock_.Now() - tasks_.front().posted;
}

absl::Duration RealEventLoop::Stuck() const {
  const absl::MutexLock lock(&mutex_);
  absl::Time since = busy_since_;
  if (!tasks_.empty()) since = std::min(since, tasks_.front().posted);
  // A timer that is due and does not fire tells of a loop that does not even wake up.
  if (!timers_.empty()) since = std::min(since, timers_.begin()->first.first);
  return std::max(absl::ZeroDuration(), clock_.Now() - since);
}

bool RealEventLoop::HasWork() const { return !tasks_.empty() || stopping_; }

bool RealEventLoop::Next(Task& task) {
  const absl::MutexLock lock(&mutex_);
  busy_since_ = absl::InfiniteFuture();
  while (true) {
    // A due timer goes first: a flood of posts must not starve the heartbeat's time-outs.
    if (!timers_.empty() && timers_.begin()->first.first <= clock_.Now() && !stopping_) {
      task = Task{std::move(timers_.begin()->second), clock_.Now()};
      timers_.erase(timers_.begin());
      busy_since_ = task.posted;
      return true;
    }
    if (!tasks_.empty()) {
      task = std::move(tasks_.front());
      tasks_.pop_front();
      busy_since_ = clock_.Now();
      return true;
    }
    if (stopping_) return false;
    const absl::Time wake = timers_.empty() ? absl::InfiniteFuture() : timers_.begin()->first.first;
    mutex_.AwaitWithDeadline(absl::Condition(this, &RealEventLoop::HasWork), wake);
  }
}

void RealEventLoop::Run(const char* name) {
  pthread_setname_np(pthread_self(), name);
  loop_thread_.store(std::this_thread::get_id());
  Task task;
  while (Next(task)) {
    task.run();
    task.run = nullptr;
  }
}

}  // namespace weft
