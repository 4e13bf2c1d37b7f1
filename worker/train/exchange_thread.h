// ExchangeThread: the one thread of a rank that talks to the other ranks. Work queued here runs in
// order beside the caller's own work; that is how the exchange of one bucket overlaps with the
// backward pass of earlier layers.
#pragma once

#include <deque>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace weft::worker {

class ExchangeThread {
 public:
  using Task = absl::AnyInvocable<absl::Status()>;

  ExchangeThread();
  // Waits for the running task; queued ones are dropped.
  ~ExchangeThread();
  ExchangeThread(const ExchangeThread&) = delete;
  ExchangeThread& operator=(const ExchangeThread&) = delete;

  // Queues a task. After a task has failed, later ones are not run. Any thread.
  void Post(Task task);
  // Waits until nothing is queued or running. The first failure since the last Drain, which is
  // thereby forgotten. One thread at a time, not from a task.
  absl::Status Drain();

 private:
  void Serve();
  [[nodiscard]] bool HasTaskOrStops() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !tasks_.empty();
  }
  [[nodiscard]] bool IsIdle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return tasks_.empty() && !running_;
  }

  absl::Mutex mutex_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace weft::worker
