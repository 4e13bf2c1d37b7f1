#include "common/process/fork_exec.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::internal {
namespace {

constexpr int kFirstFreeDescriptor = 10;
constexpr int kExecFailedStatus = 127;
// Of -1000 (never) to 1000 (first): well before us, who have 0 like everybody.
constexpr char kVictimScore[] = "500";

// Everything the child needs, allocated before the fork: afterwards only async-signal-safe calls
// are allowed, because other threads may have held locks.
struct ChildPlan {
  const char* program;
  char* const* arguments;
  char* const* environment;
  const char* directory;  // null: stay
  ChildDescriptors descriptors;
  bool first_to_go_without_memory;
  pid_t parent;
  int failure_pipe;
};

[[noreturn]] void FailChild(int failure_pipe) {
  const int cause = errno;
  // The parent reads the number; when even this write fails it sees an early end instead.
  [[maybe_unused]] const ssize_t ignored = write(failure_pipe, &cause, sizeof(cause));
  _exit(kExecFailedStatus);
}

void ResetSignals() {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &standard, nullptr);
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

bool PlaceDescriptors(const ChildDescriptors& descriptors) {
  if (dup2(descriptors.input, STDIN_FILENO) < 0) return false;
  if (descriptors.output >= 0 && dup2(descriptors.output, STDOUT_FILENO) < 0) return false;
  if (descriptors.error >= 0 && dup2(descriptors.error, STDERR_FILENO) < 0) return false;
  unsigned first_closed = 3;
  if (descriptors.messages >= 0) {
    if (dup2(descriptors.messages, 3) < 0) return false;
    first_closed = 4;
  }
  // Libraries may hold descriptors that lack the flag; a kernel or sandbox without the call only
  // costs this second line of defence.
  close_range(first_closed, ~0U, CLOSE_RANGE_CLOEXEC);
  return true;
}

void PreferAsVictim() {
  const int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (file < 0) return;
  [[maybe_unused]] const ssize_t ignored = write(file, kVictimScore, sizeof(kVictimScore) - 1);
  close(file);
}

[[noreturn]] void RunChild(const ChildPlan& plan) {
  if (setpgid(0, 0) != 0) FailChild(plan.failure_pipe);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) FailChild(plan.failure_pipe);
  // The parent may have died before the line above took effect.
  if (getppid() != plan.parent) _exit(kExecFailedStatus);
  if (!PlaceDescriptors(plan.descriptors)) FailChild(plan.failure_pipe);
  if (plan.first_to_go_without_memory) PreferAsVictim();
  if (plan.directory != nullptr && chdir(plan.directory) != 0) FailChild(plan.failure_pipe);
  ResetSignals();
  execve(plan.program, plan.arguments, plan.environment);
  FailChild(plan.failure_pipe);
}

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  // execve takes char* const* for historical reasons and does not write through it.
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

pid_t ForkWithSignalsBlocked(const ChildPlan& plan) {
  // A handler of ours must not run in the child before its handlers are reset.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t child = fork();
  if (child == 0) RunChild(plan);
  const int cause = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = cause;
  return child;
}

}  // namespace

absl::StatusOr<FileDescriptor> MoveAboveStandard(FileDescriptor descriptor) {
  if (descriptor.get() >= kFirstFreeDescriptor) return descriptor;
  FileDescriptor moved(fcntl(descriptor.get(), F_DUPFD_CLOEXEC, kFirstFreeDescriptor));
  if (!moved.is_open()) return absl::ErrnoToStatus(errno, "copying a file descriptor");
  return moved;
}

absl::StatusOr<pid_t> ForkAndExec(const ChildOptions& options,
                                  const ChildDescriptors& descriptors) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "a new pipe");
  FileDescriptor failure_reader(ends[0]);
  WEFT_ASSIGN_OR_RETURN(FileDescriptor failure_writer, MoveAboveStandard(FileDescriptor(ends[1])));

  const std::vector<char*> arguments = Pointers(options.arguments);
  const std::vector<char*> environment = Pointers(options.environment);
  const ChildPlan plan{options.program.c_str(),
                       arguments.data(),
                       environment.data(),
                       options.directory.empty() ? nullptr : options.directory.c_str(),
                       descriptors,
                       options.first_to_go_without_memory,
                       getpid(),
                       failure_writer.get()};
  const pid_t child = ForkWithSignalsBlocked(plan);
  if (child < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot start ", options.program, ": no new process (errno ", errno, ")"));
  }
  failure_writer.Close();
  int cause = 0;
  ssize_t bytes = 0;
  do {
    bytes = read(failure_reader.get(), &cause, sizeof(cause));
  } while (bytes < 0 && errno == EINTR);
  if (bytes == 0) return child;  // the pipe closed on exec: the program runs
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return absl::ErrnoToStatus(bytes == sizeof(cause) ? cause : EIO,
                             absl::StrCat("cannot start ", options.program));
}

}  // namespace weft::internal
