#include "common/process/process_supervisor.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <map>
#include <optional>
#include <thread>
#include <utility>

extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 forgot to say that these are C functions
}

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/process/file_descriptor.h"
#include "common/process/fork_exec.h"
#include "common/process/frame.h"
#include "common/process/framed_socket.h"

namespace weft {
namespace {

constexpr size_t kReadBytes = size_t{64} << 10;
// What a child wrote before its end fits into a pipe's or socket's buffer. The bound is for
// descendants that hold the other end and go on writing.
constexpr int kLastReads = 64;

// What epoll tells us is ready. The number of a child is above, the part below.
enum class Part : uint8_t { kExit, kStdout, kStderr, kMessages };
constexpr uint64_t kWakeTag = ~uint64_t{0};

uint64_t TagOf(ChildId child, Part part) {
  return (static_cast<uint64_t>(child.value()) << 2) | static_cast<uint64_t>(part);
}

struct Child {
  ChildId id;
  pid_t pid = 0;
  FileDescriptor exit;  // pidfd
  FileDescriptor standard_output;
  FileDescriptor standard_error;
  FileDescriptor messages;
  bool watches_writes = false;
  std::string unsent;  // frames the socket has not taken yet
  FrameDecoder decoder;
  ChildCallbacks callbacks;
};

struct Pipe {
  FileDescriptor reader;  // does not block
  FileDescriptor writer;
};

absl::StatusOr<Pipe> NewPipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "a new pipe");
  Pipe made{FileDescriptor(ends[0]), FileDescriptor()};
  WEFT_ASSIGN_OR_RETURN(made.writer, internal::MoveAboveStandard(FileDescriptor(ends[1])));
  if (fcntl(made.reader.get(), F_SETFL, O_NONBLOCK) != 0) {
    return absl::ErrnoToStatus(errno, "a pipe that does not block");
  }
  return made;
}

class EpollSupervisor final : public ProcessSupervisor {
 public:
  EpollSupervisor(FileDescriptor epoll, FileDescriptor wake, FileDescriptor null)
      : epoll_(std::move(epoll)), wake_(std::move(wake)), null_(std::move(null)) {
    Watch(wake_, kWakeTag, EPOLLIN);
    thread_ = std::thread([this] { Run(); });
  }
  ~EpollSupervisor() override {
    Post([this] { stopping_ = true; });
    thread_.join();
  }

  absl::StatusOr<ChildId> Spawn(const ChildOptions& options, ChildCallbacks callbacks) override;
  void Signal(ChildId child, int signal) override;
  void Send(ChildId child, absl::string_view message) override;
  [[nodiscard]] pid_t PidOf(ChildId child) const override;

 private:
  // Runs `task` on the supervisor's thread, in the order of the calls.
  void Post(absl::AnyInvocable<void()> task);
  void Run();
  void RunPosted();
  void Handle(uint64_t tag, uint32_t events);
  void KillAll();

  absl::StatusOr<ChildId> SpawnHere(const ChildOptions& options, ChildCallbacks callbacks);
  // Each returns false when nothing (more) can be read now.
  bool ReadOutput(Child& child, Part part);
  bool ReadMessages(Child& child);
  void DeliverMessages(Child& child);
  void WriteMessages(Child& child);
  void HandleExit(Child& child);

  void Watch(const FileDescriptor& descriptor, uint64_t tag, uint32_t events, bool again = false);
  Child* Find(ChildId id);

  const FileDescriptor epoll_;
  const FileDescriptor wake_;
  const FileDescriptor null_;  // the children's standard input

  mutable absl::Mutex mutex_;
  std::vector<absl::AnyInvocable<void()>> posted_ ABSL_GUARDED_BY(mutex_);
  std::map<ChildId, pid_t> pids_ ABSL_GUARDED_BY(mutex_);

  // Of the supervisor's thread alone.
  std::map<ChildId, Child> children_;
  ChildId last_id_;
  bool stopping_ = false;
  std::thread thread_;
};

void EpollSupervisor::Watch(const FileDescriptor& descriptor, uint64_t tag, uint32_t events,
                            bool again) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  const int operation = again ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  const int result = epoll_ctl(epoll_.get(), operation, descriptor.get(), &event);
  WEFT_CHECK_MSG(result == 0, absl::StrCat("epoll_ctl: errno ", errno));
}

Child* EpollSupervisor::Find(ChildId id) {
  const auto found = children_.find(id);
  return found == children_.end() ? nullptr : &found->second;
}

void EpollSupervisor::Post(absl::AnyInvocable<void()> task) {
  {
    const absl::MutexLock lock(&mutex_);
    posted_.push_back(std::move(task));
  }
  const uint64_t one = 1;
  // An eventfd takes it unless its counter is at its end, and then it is awake anyway.
  [[maybe_unused]] const ssize_t ignored = write(wake_.get(), &one, sizeof(one));
}

absl::StatusOr<ChildId> EpollSupervisor::Spawn(const ChildOptions& options,
                                               ChildCallbacks callbacks) {
  WEFT_CHECK(std::this_thread::get_id() != thread_.get_id());
  absl::StatusOr<ChildId> result;
  absl::Notification done;
  Post([this, &options, &callbacks, &result, &done] {
    result = SpawnHere(options, std::move(callbacks));
    done.Notify();
  });
  done.WaitForNotification();
  return result;
}

absl::StatusOr<ChildId> EpollSupervisor::SpawnHere(const ChildOptions& options,
                                                   ChildCallbacks callbacks) {
  Child child;
  internal::ChildDescriptors given;
  given.input = null_.get();
  Pipe output;
  Pipe error;
  FileDescriptor far_messages;
  if (callbacks.on_output) {
    WEFT_ASSIGN_OR_RETURN(output, NewPipe());
    WEFT_ASSIGN_OR_RETURN(error, NewPipe());
    given.output = output.writer.get();
    given.error = error.writer.get();
  }
  if (options.with_messages) {
    WEFT_ASSIGN_OR_RETURN(auto pair, NewSocketPair());
    child.messages = std::move(pair.first);
    WEFT_ASSIGN_OR_RETURN(far_messages, internal::MoveAboveStandard(std::move(pair.second)));
    given.messages = far_messages.get();
  }
  WEFT_ASSIGN_OR_RETURN(child.pid, internal::ForkAndExec(options, given));
  child.exit = FileDescriptor(pidfd_open(child.pid, 0));
  if (!child.exit.is_open()) {
    const absl::Status failure = absl::ErrnoToStatus(errno, "watching a new process");
    kill(-child.pid, SIGKILL);
    waitpid(child.pid, nullptr, 0);
    return failure;
  }
  last_id_ = last_id_.Next();
  child.id = last_id_;
  child.standard_output = std::move(output.reader);
  child.standard_error = std::move(error.reader);
  child.callbacks = std::move(callbacks);
  {
    const absl::MutexLock lock(&mutex_);
    pids_[child.id] = child.pid;
  }
  Watch(child.exit, TagOf(child.id, Part::kExit), EPOLLIN);
  if (child.standard_output.is_open()) {
    Watch(child.standard_output, TagOf(child.id, Part::kStdout), EPOLLIN);
    Watch(child.standard_error, TagOf(child.id, Part::kStderr), EPOLLIN);
  }
  if (child.messages.is_open()) {
    Watch(child.messages, TagOf(child.id, Part::kMessages), EPOLLIN);
  }
  const ChildId id = child.id;
  children_.emplace(id, std::move(child));
  return id;
}

void EpollSupervisor::Signal(ChildId child, int signal) {
  Post([this, child, signal] {
    // The child is not reaped yet, so its number still means its group and nobody else's.
    if (const Child* found = Find(child); found != nullptr) kill(-found->pid, signal);
  });
}

void EpollSupervisor::Send(ChildId child, absl::string_view message) {
  absl::StatusOr<std::string> frame = EncodeFrame(message);
  WEFT_CHECK_MSG(frame.ok(), frame.status().message());
  Post([this, child, bytes = *std::move(frame)] {
    Child* found = Find(child);
    if (found == nullptr || !found->messages.is_open()) return;
    found->unsent += bytes;
    WriteMessages(*found);
  });
}

pid_t EpollSupervisor::PidOf(ChildId child) const {
  const absl::MutexLock lock(&mutex_);
  const auto found = pids_.find(child);
  return found == pids_.end() ? 0 : found->second;
}

void EpollSupervisor::Run() {
  std::array<epoll_event, 64> events{};
  while (!stopping_) {
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    WEFT_CHECK_MSG(count >= 0 || errno == EINTR, absl::StrCat("epoll_wait: errno ", errno));
    for (int i = 0; i < count; ++i) Handle(events[i].data.u64, events[i].events);
  }
  KillAll();
}

void EpollSupervisor::RunPosted() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t ignored = read(wake_.get(), &count, sizeof(count));
  std::vector<absl::AnyInvocable<void()>> tasks;
  {
    const absl::MutexLock lock(&mutex_);
    tasks.swap(posted_);
  }
  for (auto& task : tasks) task();
}

void EpollSupervisor::Handle(uint64_t tag, uint32_t events) {
  if (tag == kWakeTag) return RunPosted();
  // The child may have ended earlier in the same batch of events.
  Child* child = Find(ChildId(static_cast<int64_t>(tag >> 2)));
  if (child == nullptr) return;
  switch (const Part part = static_cast<Part>(tag & 3); part) {
    case Part::kExit:
      return HandleExit(*child);
    case Part::kStdout:
    case Part::kStderr:
      ReadOutput(*child, part);
      return;
    case Part::kMessages:
      if ((events & EPOLLOUT) != 0) WriteMessages(*child);
      if (child->messages.is_open()) ReadMessages(*child);
      return;
  }
}

bool EpollSupervisor::ReadOutput(Child& child, Part part) {
  FileDescriptor& descriptor = part == Part::kStdout ? child.standard_output : child.standard_error;
  if (!descriptor.is_open()) return false;
  std::array<char, kReadBytes> bytes;  // NOLINT(cppcoreguidelines-pro-type-member-init): 64 KiB
  const ssize_t count = read(descriptor.get(), bytes.data(), bytes.size());
  if (count < 0) return errno == EINTR;
  if (count == 0) {
    descriptor.Close();
    return false;
  }
  child.callbacks.on_output(part == Part::kStdout ? OutputStream::kStdout : OutputStream::kStderr,
                            absl::string_view(bytes.data(), static_cast<size_t>(count)));
  return true;
}

bool EpollSupervisor::ReadMessages(Child& child) {
  if (!child.messages.is_open()) return false;
  std::array<char, kReadBytes> bytes;  // NOLINT(cppcoreguidelines-pro-type-member-init): 64 KiB
  const ssize_t count = recv(child.messages.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) {
    return errno == EINTR;
  }
  if (count <= 0) {  // closed, or reset by the child's death
    child.messages.Close();
    if (!child.decoder.AtBoundary() && child.callbacks.on_message) {
      child.callbacks.on_message(absl::DataLossError("it closed its messages within one"));
    }
    return false;
  }
  child.decoder.Append(absl::string_view(bytes.data(), static_cast<size_t>(count)));
  DeliverMessages(child);
  return child.messages.is_open();
}

void EpollSupervisor::DeliverMessages(Child& child) {
  while (true) {
    absl::StatusOr<std::optional<std::string>> message = child.decoder.Next();
    if (message.ok() && !message->has_value()) return;
    if (!message.ok()) child.messages.Close();
    if (child.callbacks.on_message) {
      if (message.ok()) {
        child.callbacks.on_message(**std::move(message));
      } else {
        child.callbacks.on_message(message.status());
      }
    }
    if (!child.messages.is_open()) return;
  }
}

void EpollSupervisor::WriteMessages(Child& child) {
  while (!child.unsent.empty()) {
    const ssize_t count = send(child.messages.get(), child.unsent.data(), child.unsent.size(),
                               MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      child.unsent.erase(0, static_cast<size_t>(count));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) child.unsent.clear();  // its end will be noticed
    break;
  }
  const bool watch_writes = !child.unsent.empty();
  if (watch_writes != child.watches_writes) {
    child.watches_writes = watch_writes;
    Watch(child.messages, TagOf(child.id, Part::kMessages),
          watch_writes ? EPOLLIN | EPOLLOUT : EPOLLIN, /*again=*/true);
  }
}

void EpollSupervisor::HandleExit(Child& child) {
  kill(-child.pid, SIGKILL);  // what is left of its group
  for (const Part part : {Part::kStdout, Part::kStderr}) {
    for (int i = 0; i < kLastReads && ReadOutput(child, part); ++i) {
    }
  }
  for (int i = 0; i < kLastReads && ReadMessages(child); ++i) {
  }
  int raw = 0;
  while (waitpid(child.pid, &raw, 0) < 0 && errno == EINTR) {
  }
  ExitStatus status;
  if (WIFSIGNALED(raw)) {
    status.signal = WTERMSIG(raw);
  } else {
    status.code = WEXITSTATUS(raw);
  }
  {
    const absl::MutexLock lock(&mutex_);
    pids_.erase(child.id);
  }
  Child ended = std::move(child);
  children_.erase(ended.id);
  if (ended.callbacks.on_exit) ended.callbacks.on_exit(status);
}

void EpollSupervisor::KillAll() {
  for (const auto& [id, child] : children_) kill(-child.pid, SIGKILL);
  for (const auto& [id, child] : children_) {
    while (waitpid(child.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  children_.clear();
}

}  // namespace

std::string SignalName(int signal) {
  const char* name = sigabbrev_np(signal);
  return name == nullptr ? absl::StrCat("signal ", signal) : absl::StrCat("SIG", name);
}

std::string ExitStatus::ToString() const {
  return signal != 0 ? absl::StrCat("was killed by ", SignalName(signal))
                     : absl::StrCat("ended with status ", code);
}

absl::StatusOr<std::unique_ptr<ProcessSupervisor>> ProcessSupervisor::Create() {
  const FileDescriptor probe(pidfd_open(getpid(), 0));
  if (!probe.is_open()) {
    return absl::UnimplementedError(
        absl::StrCat("supervising processes needs pidfd_open, which this kernel or sandbox does "
                     "not offer (errno ",
                     errno, "); Linux 5.3 and later have it"));
  }
  FileDescriptor epoll(epoll_create1(EPOLL_CLOEXEC));
  FileDescriptor wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  FileDescriptor null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!epoll.is_open() || !wake.is_open() || !null.is_open()) {
    return absl::ErrnoToStatus(errno, "supervising processes");
  }
  WEFT_ASSIGN_OR_RETURN(null, internal::MoveAboveStandard(std::move(null)));
  return std::make_unique<EpollSupervisor>(std::move(epoll), std::move(wake), std::move(null));
}

}  // namespace weft
