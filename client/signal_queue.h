// SignalQueue: signals as something to wait for, beside keys and answers, instead of handlers that
// may do next to nothing.
//
// To be made before any other thread: threads that are started later leave these signals to it.
#pragma once

#include <signal.h>

#include <initializer_list>
#include <optional>

#include "absl/time/time.h"
#include "common/process/file_descriptor.h"

namespace weft::client {

class SignalQueue {
 public:
  // From now on these signals wait here. What ignores a signal (nohup) goes on doing so.
  SignalQueue(std::initializer_list<int> signals);
  ~SignalQueue();  // those that wait have their usual effect
  SignalQueue(const SignalQueue&) = delete;
  SignalQueue& operator=(const SignalQueue&) = delete;

  // Readable while a signal waits.
  [[nodiscard]] int descriptor() const { return descriptor_.get(); }
  // The next signal; nothing when none comes within `limit`.
  [[nodiscard]] std::optional<int> Next(absl::Duration limit) const;
  // Lets a signal do what it does to a program that does not care: end it, or stop it until it is
  // continued.
  void Obey(int signal) const;

 private:
  sigset_t set_{};
  FileDescriptor descriptor_;
};

}  // namespace weft::client
