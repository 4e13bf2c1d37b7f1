#include "worker/train/exchange_thread.h"

#include <utility>

namespace weft::worker {

ExchangeThread::ExchangeThread() : thread_([this] { Serve(); }) {}

ExchangeThread::~ExchangeThread() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    tasks_.clear();
  }
  thread_.join();
}

void ExchangeThread::Post(Task task) {
  absl::MutexLock lock(&mutex_);
  if (failure_.ok()) tasks_.push_back(std::move(task));
}

absl::Status ExchangeThread::Drain() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(this, &ExchangeThread::IsIdle));
  return std::exchange(failure_, absl::OkStatus());
}

void ExchangeThread::Serve() {
  absl::MutexLock lock(&mutex_);
  while (true) {
    mutex_.Await(absl::Condition(this, &ExchangeThread::HasTaskOrStops));
    if (stopping_) return;
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    running_ = true;
    mutex_.Unlock();
    absl::Status status = task();
    task = nullptr;
    mutex_.Lock();
    running_ = false;
    if (!status.ok() && failure_.ok()) {
      failure_ = std::move(status);
      tasks_.clear();
    }
  }
}

}  // namespace weft::worker
