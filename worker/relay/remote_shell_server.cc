#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "worker/relay/remote_shell.h"
#include "worker/relay/remote_shell_wire.h"
#include "worker/relay/unix_socket.h"

namespace weft::worker {
namespace {

class UniqueFile {
 public:
  explicit UniqueFile(int file = -1) : file_(file) {}
  UniqueFile(UniqueFile&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
  UniqueFile& operator=(UniqueFile&& other) noexcept {
    std::swap(file_, other.file_);
    return *this;
  }
  ~UniqueFile() {
    if (file_ >= 0) close(file_);
  }
  [[nodiscard]] int get() const { return file_; }

 private:
  int file_;
};

// A gang has at most this many hosts per lead at a time; beyond it connections are closed.
constexpr size_t kMostSessions = 4096;

class PollingServer final : public RemoteShellServer {
 public:
  PollingServer(std::string path, UniqueFile listener, UniqueFile wake, Callbacks callbacks)
      : path_(std::move(path)),
        listener_(std::move(listener)),
        wake_(std::move(wake)),
        callbacks_(std::move(callbacks)),
        thread_([this] { Serve(); }) {}

  ~PollingServer() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    Wake();
    thread_.join();
    unlink(path_.c_str());
  }

  void Finish(Session session, int exit_status, absl::string_view message) override {
    {
      absl::MutexLock lock(&mutex_);
      finished_.push_back({session, {exit_status, std::string(message.substr(0, 4096))}});
    }
    Wake();
  }

 private:
  struct Connection {
    UniqueFile file;
    std::string received;
    bool requested = false;  // on_request was called
  };
  struct Finished {
    Session session;
    remote_shell_wire::Answer answer;
  };

  void Wake() const {
    const uint64_t one = 1;
    // It fails only when the counter is full, and then a wake-up is pending anyhow.
    [[maybe_unused]] const ssize_t ignored = write(wake_.get(), &one, sizeof(one));
  }

  void Serve();
  void Accept();
  void Receive(Session session);
  // Answers and closes what was finished; false when the server stops.
  bool TakeFinished();

  const std::string path_;
  const UniqueFile listener_;
  const UniqueFile wake_;
  const Callbacks callbacks_;
  // Of the server's thread alone.
  std::map<Session, Connection> connections_;
  Session next_session_{1};

  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Finished> finished_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // last: it uses all of the above
};

void PollingServer::Serve() {
  while (TakeFinished()) {
    std::vector<pollfd> files = {{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    std::vector<Session> sessions;
    for (const auto& [session, connection] : connections_) {
      files.push_back({connection.file.get(), POLLIN, 0});
      sessions.push_back(session);
    }
    if (poll(files.data(), files.size(), -1) < 0) {
      WEFT_CHECK_MSG(errno == EINTR, "poll of the remote shell's sockets");
      continue;
    }
    if (files[0].revents != 0) {
      uint64_t ignored = 0;
      [[maybe_unused]] const ssize_t drained = read(wake_.get(), &ignored, sizeof(ignored));
    }
    for (size_t i = 0; i < sessions.size(); ++i) {
      if (files[i + 2].revents != 0) Receive(sessions[i]);
    }
    if (files[1].revents != 0) Accept();
  }
}

void PollingServer::Accept() {
  UniqueFile file(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (file.get() < 0) return;
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (getsockopt(file.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return;
  if (peer.uid != geteuid() && peer.uid != 0) return;
  if (connections_.size() >= kMostSessions) return;
  connections_.emplace(next_session_, Connection{std::move(file), "", false});
  next_session_ = next_session_.Next();
}

void PollingServer::Receive(Session session) {
  const auto at = connections_.find(session);
  if (at == connections_.end()) return;
  Connection& connection = at->second;
  std::array<char, 4096> buffer{};
  const ssize_t got = recv(connection.file.get(), buffer.data(), buffer.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    const bool requested = connection.requested;
    connections_.erase(at);
    if (requested) callbacks_.on_hangup(session);
    return;
  }
  if (connection.requested) return;  // nothing more is expected; what comes is dropped
  connection.received.append(buffer.data(), static_cast<size_t>(got));
  const auto message = remote_shell_wire::TakeMessage(connection.received);
  if (message.ok() && !message->has_value()) return;
  absl::StatusOr<RemoteShellRequest> request =
      message.ok() ? remote_shell_wire::DecodeRequest(**message)
                   : absl::StatusOr<RemoteShellRequest>(message.status());
  connection.requested = request.ok();
  connection.received.clear();
  if (request.ok()) {
    callbacks_.on_request(session, *std::move(request));
  } else {
    Finish(session, kAgentLostStatus, request.status().message());
  }
}

bool PollingServer::TakeFinished() {
  std::vector<Finished> finished;
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return false;
    finished.swap(finished_);
  }
  for (const Finished& one : finished) {
    const auto at = connections_.find(one.session);
    if (at == connections_.end()) continue;
    // A few kilobytes into an empty socket buffer: fits, or the peer is sick and gets a hang-up.
    const std::string bytes = remote_shell_wire::EncodeAnswer(one.answer);
    [[maybe_unused]] const ssize_t ignored =
        send(at->second.file.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    connections_.erase(at);
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RemoteShellServer>> RemoteShellServer::Listen(
    const std::string& path, Callbacks callbacks) {
  WEFT_ASSIGN_OR_RETURN(const sockaddr_un address, UnixAddress(path));
  UniqueFile listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  UniqueFile wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (listener.get() < 0 || wake.get() < 0) return absl::ErrnoToStatus(errno, "socket");
  struct stat state {};
  if (lstat(path.c_str(), &state) == 0 && S_ISSOCK(state.st_mode)) unlink(path.c_str());
  const absl::string_view problem = [&]() -> absl::string_view {
    if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      return "binding ";
    }
    if (chmod(path.c_str(), 0600) != 0) return "protecting ";
    if (listen(listener.get(), 128) != 0) return "listening at ";
    return "";
  }();
  if (!problem.empty()) return absl::ErrnoToStatus(errno, absl::StrCat(problem, path));
  return std::unique_ptr<RemoteShellServer>(std::make_unique<PollingServer>(
      path, std::move(listener), std::move(wake), std::move(callbacks)));
}

}  // namespace weft::worker
