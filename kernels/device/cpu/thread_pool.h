// A fixed set of threads that work on one parallel loop at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"

namespace weft::kernels {

class ThreadPool {
 public:
  // `threads` counts the caller of ParallelFor: threads - 1 are started.
  explicit ThreadPool(int threads);
  // Joins the threads. No loop may be running.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int threads() const { return static_cast<int>(started_.size()) + 1; }

  // Calls task(i) once for each i in [0, count), on the caller and the started threads in any
  // order; returns when all are done. Callers on several threads take turns. Not from a task.
  void ParallelFor(int64_t count, absl::FunctionRef<void(int64_t)> task);

 private:
  struct Loop {
    absl::FunctionRef<void(int64_t)> task;
    int64_t count;
    std::atomic<int64_t> next{0};
  };

  void Serve();
  static void Work(Loop& loop);

  absl::Mutex turn_;  // held during a loop: one at a time
  absl::Mutex mutex_;
  absl::CondVar changed_;
  Loop* loop_ ABSL_GUARDED_BY(mutex_) = nullptr;
  int64_t loops_begun_ ABSL_GUARDED_BY(mutex_) = 0;
  int busy_ ABSL_GUARDED_BY(mutex_) = 0;  // started threads inside the current loop
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> started_;
};

}  // namespace weft::kernels
