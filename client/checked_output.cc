#include "client/checked_output.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <system_error>

#include "common/base/exit_codes.h"

namespace weft::client {
namespace {

bool IsBlocked(int signal) {
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  return sigismember(&blocked, signal) == 1;
}

}  // namespace

CheckedOutput::CheckedOutput(int descriptor)
    : descriptor_(descriptor),
      is_terminal_(isatty(descriptor) == 1),
      before_(std::cout.rdbuf(this)) {}

CheckedOutput::~CheckedOutput() {
  sync();
  std::cout.rdbuf(before_);
}

CheckedOutput::int_type CheckedOutput::overflow(int_type letter) {
  if (letter == traits_type::eof()) return traits_type::not_eof(letter);
  const char text = traits_type::to_char_type(letter);
  xsputn(&text, 1);
  return letter;
}

std::streamsize CheckedOutput::xsputn(const char* text, std::streamsize size) {
  const absl::MutexLock lock(&mutex_);
  auto left = static_cast<size_t>(size);
  const bool whole_line = is_terminal_ && memchr(text, '\n', left) != nullptr;
  while (left > 0) {
    if (used_ == buffer_.size()) Flush();
    const size_t taken = std::min(left, buffer_.size() - used_);
    std::copy_n(text, taken, buffer_.begin() + static_cast<std::ptrdiff_t>(used_));
    used_ += taken;
    text += taken;
    left -= taken;
  }
  if (whole_line) Flush();
  return size;
}

int CheckedOutput::sync() {
  const absl::MutexLock lock(&mutex_);
  Flush();
  return 0;
}

void CheckedOutput::Flush() {
  size_t written = 0;
  while (written < used_ && !failed_) {
    const ssize_t got = write(descriptor_, buffer_.data() + written, used_ - written);
    if (got >= 0) {
      written += static_cast<size_t>(got);
    } else if (errno == EAGAIN) {  // somebody else made it so
      pollfd writable = {.fd = descriptor_, .events = POLLOUT, .revents = 0};
      poll(&writable, 1, -1);
    } else if (errno != EINTR) {
      Fail(errno);
    }
  }
  used_ = 0;
}

void CheckedOutput::Fail(int error) {
  failed_ = true;
  if (error != EPIPE) {
    // Not std::cerr, which writes what std::cout holds first.
    dprintf(STDERR_FILENO, "weft: cannot write to standard output: %s\n",
            std::generic_category().message(error).c_str());
    if (!IsBlocked(SIGPIPE)) std::_Exit(kExitError);
  }
  // A write to a closed pipe has left one of its own with this thread, where the signal is blocked.
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  constexpr timespec kNow = {};
  sigtimedwait(&pipe, nullptr, &kNow);
  std::signal(SIGPIPE, SIG_DFL);
  kill(getpid(), SIGPIPE);
}

}  // namespace weft::client
