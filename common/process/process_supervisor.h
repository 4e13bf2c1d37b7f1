// ProcessSupervisor: starts child processes, reads what they say, notices their end at once, and
// leaves nothing behind.
//
// Each child leads a process group of its own. What is left of the group when the child ends is
// killed. When this process ends, however it ends, each child gets SIGKILL from the kernel; its own
// children do not, and must notice by themselves that it is gone. (Children are forked by a thread
// of the supervisor, because the kernel counts from the forking thread's end.)
//
// Threads: all methods may be called from any thread. Callbacks run on the supervisor's thread, one
// at a time, and must return soon: a callback that waits for a disk holds up its child's output,
// and all other callbacks. They may call Signal and Send, not Spawn.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/strong_int.h"

namespace weft {

using ChildId = StrongInt<struct ChildIdTag>;

struct ExitStatus {
  int code = 0;    // of exit(); 0 when a signal ended the process
  int signal = 0;  // that ended it; 0 when it ended by itself

  [[nodiscard]] bool ok() const { return code == 0 && signal == 0; }
  // "ended with status 3", "was killed by SIGSEGV": goes on after the name of the process.
  [[nodiscard]] std::string ToString() const;
  // As a shell tells it: the code, or 128 + signal.
  [[nodiscard]] int ShellCode() const { return signal == 0 ? code : 128 + signal; }
};

// "SIGTERM"; "signal 77" for one without a name.
std::string SignalName(int signal);

enum class OutputStream : uint8_t { kStdout, kStderr };

struct ChildOptions {
  std::string program;                   // a path; nothing is searched
  std::vector<std::string> arguments;    // argv, [0] included
  std::vector<std::string> environment;  // all of it, NAME=value
  std::string directory;                 // empty: the present one
  // The child gets one end of a socket pair as descriptor 3; both sides speak frames (frame.h).
  bool with_messages = false;
  // The kernel should sooner end this child than us when memory runs out.
  bool first_to_go_without_memory = true;
};

struct ChildCallbacks {
  // A piece of output, as it comes, lines not kept whole. Null: the child writes where we write.
  absl::AnyInvocable<void(OutputStream, absl::string_view)> on_output;
  // A message, or once, at the end, an error: kDataLoss (damaged). An orderly end is not told.
  absl::AnyInvocable<void(absl::StatusOr<std::string>)> on_message;
  // Exactly once, after all output and messages of the child itself. The process is gone.
  absl::AnyInvocable<void(ExitStatus)> on_exit;
};

class ProcessSupervisor {
 public:
  // kUnimplemented on a kernel without pidfd_open (before Linux 5.3).
  static absl::StatusOr<std::unique_ptr<ProcessSupervisor>> Create();
  // Kills and reaps all children; no callback runs any more.
  virtual ~ProcessSupervisor() = default;

  // Returns when the program runs. kNotFound, kPermissionDenied, ... with the path when it cannot
  // be executed (on_exit is not called then); kResourceExhausted when there are too many processes.
  virtual absl::StatusOr<ChildId> Spawn(const ChildOptions& options, ChildCallbacks callbacks) = 0;
  // To the whole process group. A child that ended, or was never there, is ignored.
  virtual void Signal(ChildId child, int signal) = 0;
  // Queues a message; it is lost when the child ends before it reads it.
  virtual void Send(ChildId child, absl::string_view message) = 0;
  // 0 when the child has ended.
  [[nodiscard]] virtual pid_t PidOf(ChildId child) const = 0;
};

}  // namespace weft
