#include "client/signal_queue.h"

#include <sys/signalfd.h>

#include "common/base/check.h"

namespace weft::client {

SignalQueue::SignalQueue(std::initializer_list<int> signals) {
  sigemptyset(&set_);
  for (const int signal : signals) sigaddset(&set_, signal);
  pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  descriptor_ = FileDescriptor(signalfd(-1, &set_, SFD_CLOEXEC));
  WEFT_CHECK_MSG(descriptor_.is_open(), "no descriptor is left for signals");
}

SignalQueue::~SignalQueue() { pthread_sigmask(SIG_UNBLOCK, &set_, nullptr); }

std::optional<int> SignalQueue::Next(absl::Duration limit) const {
  const timespec time = absl::ToTimespec(limit);
  const int signal = sigtimedwait(&set_, nullptr, &time);
  return signal > 0 ? std::optional<int>(signal) : std::nullopt;
}

void SignalQueue::Obey(int signal) const {
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, signal);
  ::signal(signal, SIG_DFL);
  raise(signal);
  pthread_sigmask(SIG_UNBLOCK, &one, nullptr);  // here it strikes
  pthread_sigmask(SIG_BLOCK, &one, nullptr);
}

}  // namespace weft::client
