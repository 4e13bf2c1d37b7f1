#include "kernels/device/cpu/thread_pool.h"

#include "common/base/check.h"

namespace weft::kernels {
namespace {

thread_local bool inside_a_task = false;

}  // namespace

ThreadPool::ThreadPool(int threads) {
  WEFT_CHECK(threads >= 1);
  started_.reserve(static_cast<size_t>(threads) - 1);
  for (int i = 1; i < threads; ++i) started_.emplace_back([this] { Serve(); });
}

ThreadPool::~ThreadPool() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
    changed_.SignalAll();
  }
  for (std::thread& thread : started_) thread.join();
}

void ThreadPool::Work(Loop& loop) {
  inside_a_task = true;
  for (;;) {
    const int64_t i = loop.next.fetch_add(1, std::memory_order_relaxed);
    if (i >= loop.count) break;
    loop.task(i);
  }
  inside_a_task = false;
}

void ThreadPool::ParallelFor(int64_t count, absl::FunctionRef<void(int64_t)> task) {
  WEFT_CHECK_MSG(!inside_a_task, "a task of a parallel loop may not start another loop");
  Loop loop{task, count};
  if (started_.empty() || count <= 1) {
    Work(loop);
    return;
  }
  absl::MutexLock turn(&turn_);
  {
    absl::MutexLock lock(&mutex_);
    loop_ = &loop;
    ++loops_begun_;
    changed_.SignalAll();
  }
  Work(loop);
  // A thread that has not woken up yet finds no loop and goes on sleeping: nobody waits for it.
  absl::MutexLock lock(&mutex_);
  loop_ = nullptr;
  while (busy_ > 0) changed_.Wait(&mutex_);
}

void ThreadPool::Serve() {
  int64_t loops_seen = 0;
  absl::MutexLock lock(&mutex_);
  for (;;) {
    while (!stop_ && (loop_ == nullptr || loops_begun_ == loops_seen)) changed_.Wait(&mutex_);
    if (stop_) return;
    loops_seen = loops_begun_;
    Loop* const loop = loop_;
    ++busy_;
    mutex_.Unlock();
    Work(*loop);
    mutex_.Lock();
    if (--busy_ == 0) changed_.SignalAll();
  }
}

}  // namespace weft::kernels
