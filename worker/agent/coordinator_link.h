// CoordinatorLink: one stream to the coordinator, from its opening to its end. The agent makes a
// new one whenever the last one ended.
#pragma once

#include <grpcpp/channel.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "weft/v1/worker_link.pb.h"

namespace weft::worker {

class CoordinatorLink {
 public:
  // Called on gRPC's threads, one at a time; they must return soon.
  struct Callbacks {
    std::function<void(v1::CoordinatorMessage)> on_message;
    // Exactly once, after the last message. The status is that of the stream: OK when the
    // coordinator closed it in order.
    std::function<void(absl::Status)> on_end;
  };

  // Opens a stream with `hello` as its first message.
  CoordinatorLink(const std::shared_ptr<grpc::Channel>& channel, const v1::WorkerMessage& hello,
                  Callbacks callbacks);
  // Ends the stream; on_end still comes, later, unless it came already.
  ~CoordinatorLink();
  CoordinatorLink(const CoordinatorLink&) = delete;
  CoordinatorLink& operator=(const CoordinatorLink&) = delete;

  // Queues a message; in order. It is lost when the stream ends first. Any thread.
  void Send(v1::WorkerMessage message);
  // Bytes that the stream has not taken yet: who has much to send waits until it is little.
  [[nodiscard]] int64_t queued_bytes() const;
  // Ends the stream once what is queued was written.
  void Finish();
  // Ends the stream now.
  void Cancel();

 private:
  class Stream;
  std::shared_ptr<Stream> stream_;
};

}  // namespace weft::worker
