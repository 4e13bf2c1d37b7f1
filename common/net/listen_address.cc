#include "common/net/listen_address.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft {
namespace {

absl::Status ListenError(absl::string_view text, int error) {
  switch (error) {
    case EADDRINUSE:
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", text, ": the port is in use by another process"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(
          absl::StrCat("cannot listen on ", text, ": not allowed (ports below 1024 need root)"));
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("cannot listen on ", text, ": no address of this machine"));
  }
}

}  // namespace

absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text) {
  const size_t colon = text.rfind(':');
  ListenAddress address;
  if (colon != absl::string_view::npos && colon > 0 &&
      absl::SimpleAtoi(text.substr(colon + 1), &address.port) && address.port >= 0 &&
      address.port <= 65535) {
    address.host = std::string(text.substr(0, colon));
    const bool bracketed = address.host.front() == '[' && address.host.back() == ']';
    if (bracketed || address.host.find(':') == std::string::npos) return address;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "'", text, "' is no address to listen on; allowed: host:port, for example 127.0.0.1:7733,",
      " with a port from 0 (any free one) to 65535"));
}

absl::StatusOr<ListenAddress> CheckListenAddress(absl::string_view text) {
  WEFT_ASSIGN_OR_RETURN(const ListenAddress address, ParseListenAddress(text));
  std::string host = address.host;
  if (host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const std::string port = absl::StrCat(address.port);
  if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot listen on ", text, ": no such host: ", gai_strerror(error)));
  }
  const absl::Cleanup free_found = [found] { freeaddrinfo(found); };
  const int fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, found->ai_protocol);
  if (fd < 0) return ListenError(text, errno);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  // As gRPC does: connections of an earlier process that are still closing are no obstacle.
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 1) != 0) {
    return ListenError(text, errno);
  }
  return address;
}

}  // namespace weft
