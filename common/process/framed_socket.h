// FramedSocket: whole messages over one end of a socket pair, for two processes of one host.
//
// Threads: one thread may send while another receives; not two senders or two receivers at once.
#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/process/file_descriptor.h"
#include "common/process/frame.h"

namespace weft {

// The two ends of a new stream socket pair; neither is inherited by programs that are executed.
absl::StatusOr<std::pair<FileDescriptor, FileDescriptor>> NewSocketPair();

class FramedSocket {
 public:
  explicit FramedSocket(FileDescriptor socket) : socket_(std::move(socket)) {}

  // Returns when the kernel has taken the whole message, which may wait for the other side to read.
  //   kUnavailable       the other side is gone (no signal is raised)
  //   kDeadlineExceeded  part of the message may have been sent: nothing can be sent any more
  //   kInvalidArgument   longer than kMaxFrameBytes; nothing was sent
  absl::Status Send(absl::string_view message, absl::Time deadline = absl::InfiniteFuture());

  // The next message.
  //   kOutOfRange        the other side closed, after a whole message
  //   kDataLoss          it closed within a message, or announced one beyond kMaxFrameBytes
  //   kDeadlineExceeded  nothing is lost; call again
  absl::StatusOr<std::string> Receive(absl::Time deadline = absl::InfiniteFuture());

  // Both directions end: waiting calls of other threads return. Any thread.
  void Shutdown();

 private:
  const FileDescriptor socket_;
  FrameDecoder decoder_;
  bool send_broken_ = false;
};

}  // namespace weft
