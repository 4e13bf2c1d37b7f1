// A unary call that is answered from the event loop.
#pragma once

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/status/status.h"
#include "common/rpc/grpc_status.h"
#include "common/time/event_loop.h"

namespace weft::coordinator {

// Finishes its call exactly once: with the status given, or, when it is dropped on the way (the
// loop has stopped), with UNAVAILABLE. So no call is left open, and the server can always stop.
class Reply {
 public:
  explicit Reply(grpc::ServerUnaryReactor* reactor) : reactor_(reactor) {}
  Reply(Reply&& other) noexcept : reactor_(std::exchange(other.reactor_, nullptr)) {}
  Reply& operator=(Reply&&) = delete;
  ~Reply() { Finish(absl::UnavailableError("the coordinator is stopping")); }

  void Finish(const absl::Status& status) {
    if (auto* const reactor = std::exchange(reactor_, nullptr); reactor != nullptr) {
      reactor->Finish(ToGrpc(status));
    }
  }

 private:
  grpc::ServerUnaryReactor* reactor_;
};

// Runs `handle(Reply)` on the loop. Request and response of the call live until the reply is given.
template <class Handle>
grpc::ServerUnaryReactor* HandleOnLoop(EventLoop& loop, grpc::CallbackServerContext* context,
                                       Handle handle) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  loop.Post(
      [reply = Reply(reactor), handle = std::move(handle)]() mutable { handle(std::move(reply)); });
  return reactor;
}

// The same for a handler that knows its answer at once: `handle()` returns the status.
template <class Handle>
grpc::ServerUnaryReactor* AnswerOnLoop(EventLoop& loop, grpc::CallbackServerContext* context,
                                       Handle handle) {
  return HandleOnLoop(
      loop, context, [handle = std::move(handle)](Reply reply) mutable { reply.Finish(handle()); });
}

}  // namespace weft::coordinator
