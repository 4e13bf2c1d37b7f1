#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <string>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "worker/relay/remote_shell.h"
#include "worker/relay/remote_shell_wire.h"
#include "worker/relay/unix_socket.h"

namespace weft::worker {
namespace {

absl::Status SendAll(int socket, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return absl::UnavailableError("the agent does not take the request");
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReceiveMessage(int socket) {
  std::string received;
  std::array<char, 4096> buffer{};
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const auto message, remote_shell_wire::TakeMessage(received));
    if (message.has_value()) return *message;
    const ssize_t got = recv(socket, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return absl::UnavailableError("the agent has ended");
    received.append(buffer.data(), static_cast<size_t>(got));
  }
}

}  // namespace

absl::StatusOr<int> RunRemoteShell(const std::string& socket_path,
                                   const RemoteShellRequest& request) {
  WEFT_ASSIGN_OR_RETURN(const sockaddr_un address, UnixAddress(socket_path));
  const int file = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (file < 0) return absl::ErrnoToStatus(errno, "socket");
  const absl::Cleanup close_file = [file] { close(file); };
  if (connect(file, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return absl::UnavailableError(
        absl::StrCat(absl::ErrnoToStatus(errno, "no agent answers at ").message(), socket_path));
  }
  WEFT_RETURN_IF_ERROR(SendAll(file, remote_shell_wire::EncodeRequest(request)));
  WEFT_ASSIGN_OR_RETURN(const std::string message, ReceiveMessage(file));
  WEFT_ASSIGN_OR_RETURN(const auto answer, remote_shell_wire::DecodeAnswer(message));
  if (!answer.message.empty()) {
    std::fprintf(stderr, "%s: %s\n", request.host.c_str(), answer.message.c_str());
  }
  return answer.exit_status;
}

}  // namespace weft::worker
