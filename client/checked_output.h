// CheckedOutput: standard output that ends the program when it cannot be written any more, so that
// no command needs to ask after what it prints.
//
// A reader that is gone (`weft logs -f JOB | head -1`) ends it as SIGPIPE ends other programs,
// without a word; any other error with a sentence on standard error and exit code 1. Where a
// SignalQueue has SIGPIPE, both send it that signal instead, and it can end in an orderly way; what
// is written from then on is dropped.
#pragma once

#include <array>
#include <ios>
#include <streambuf>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace weft::client {

// Any thread may write. To a terminal whole lines go at once.
class CheckedOutput final : public std::streambuf {
 public:
  // Until the end of this object std::cout writes to the descriptor, which stays its owner's.
  explicit CheckedOutput(int descriptor);
  ~CheckedOutput() override;  // writes what is left
  CheckedOutput(const CheckedOutput&) = delete;
  CheckedOutput& operator=(const CheckedOutput&) = delete;

 private:
  int_type overflow(int_type letter) override;
  std::streamsize xsputn(const char* text, std::streamsize size) override;
  int sync() override;

  void Flush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(int error) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int descriptor_;
  const bool is_terminal_;
  std::streambuf* const before_;  // of std::cout
  absl::Mutex mutex_;
  std::array<char, 1 << 14> buffer_ ABSL_GUARDED_BY(mutex_);
  size_t used_ ABSL_GUARDED_BY(mutex_) = 0;
  bool failed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace weft::client
