#include "common/process/framed_socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"

namespace weft {
namespace {

// poll counts milliseconds in an int.
constexpr absl::Duration kLongestPoll = absl::Hours(1);

// Waits until the socket is ready for `events` (or broken). kDeadlineExceeded at the deadline.
absl::Status WaitReady(int socket, int16_t events, absl::Time deadline) {
  while (true) {
    pollfd entry{socket, events, 0};
    const absl::Duration left = std::min(deadline - absl::Now(), kLongestPoll);
    // Rounded up: a poll that returns just before the deadline would spin.
    const int64_t milliseconds =
        std::max<int64_t>(0, absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))));
    const int ready = poll(&entry, 1, static_cast<int>(milliseconds));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "poll of a socket");
    if (ready == 0 && absl::Now() >= deadline) {
      return absl::DeadlineExceededError("the other side of the socket did not answer in time");
    }
  }
}

}  // namespace

absl::StatusOr<std::pair<FileDescriptor, FileDescriptor>> NewSocketPair() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return absl::ErrnoToStatus(errno, "a new socket pair");
  }
  return std::make_pair(FileDescriptor(ends[0]), FileDescriptor(ends[1]));
}

absl::Status FramedSocket::Send(absl::string_view message, absl::Time deadline) {
  if (send_broken_) return absl::UnavailableError("an earlier message was not sent completely");
  WEFT_ASSIGN_OR_RETURN(const std::string frame, EncodeFrame(message));
  size_t sent = 0;
  while (sent < frame.size()) {
    const ssize_t bytes =
        send(socket_.get(), frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (bytes >= 0) {
      sent += static_cast<size_t>(bytes);
      continue;
    }
    if (errno == EINTR) continue;
    absl::Status failure;
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      failure = WaitReady(socket_.get(), POLLOUT, deadline);
    } else {
      failure = absl::UnavailableError(
          absl::StrCat("the other side of the socket is gone (errno ", errno, ")"));
    }
    if (!failure.ok()) {
      send_broken_ = true;
      return failure;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> FramedSocket::Receive(absl::Time deadline) {
  std::array<char, 16 << 10> bytes{};
  while (true) {
    WEFT_ASSIGN_OR_RETURN(std::optional<std::string> message, decoder_.Next());
    if (message.has_value()) return *std::move(message);
    WEFT_RETURN_IF_ERROR(WaitReady(socket_.get(), POLLIN, deadline));
    const ssize_t received = recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (received > 0) {
      decoder_.Append(absl::string_view(bytes.data(), static_cast<size_t>(received)));
      continue;
    }
    if (received < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) continue;
    // A reset by the other side's death counts as its end.
    if (!decoder_.AtBoundary()) {
      return absl::DataLossError("the other side of the socket closed within a message");
    }
    return absl::OutOfRangeError("the other side of the socket closed");
  }
}

void FramedSocket::Shutdown() { shutdown(socket_.get(), SHUT_RDWR); }

}  // namespace weft
