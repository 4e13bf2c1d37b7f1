// A server stream that lives on the event loop: gRPC's threads only post to it, so it needs no
// lock.
//
// Life: made by the handler of the call; OnBegin runs on the loop; then writes and events; End says
// the status once; when gRPC has let go of it, it is deleted on the loop, after everything that was
// posted before. The server must therefore be stopped before the loop.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "common/base/check.h"
#include "common/rpc/grpc_status.h"
#include "common/time/event_loop.h"

namespace weft::coordinator {

// What can be ended from outside.
class Endable {
 public:
  virtual ~Endable() = default;
  virtual void End(const absl::Status& status) = 0;
};

// The open streams of a server, to end them all when it stops. Loop thread.
class OpenStreams {
 public:
  // False: the server is stopping, the stream must end.
  [[nodiscard]] bool Add(Endable* stream) {
    if (!closed_) streams_.insert(stream);
    return !closed_;
  }
  void Remove(Endable* stream) { streams_.erase(stream); }
  // Every stream, those to come included, ends with this status.
  void EndAll(const absl::Status& status) {
    closed_ = true;
    const std::set<Endable*> streams = streams_;
    for (Endable* const stream : streams) stream->End(status);
  }

 private:
  std::set<Endable*> streams_;
  bool closed_ = false;
};

// `Reactor` is grpc::ServerWriteReactor<Response> or grpc::ServerBidiReactor<Request, Response>.
template <class Reactor, class Response>
class LoopStream : public Reactor, public Endable {
 public:
  LoopStream(EventLoop& loop, OpenStreams& open) : loop_(loop), open_(open) {}

  void OnWriteDone(bool ok) final {
    loop_.Post([this, ok] {
      writing_ = false;
      if (!ok) return End(absl::CancelledError("the client is gone"));
      if (!ended_) OnWritten();
    });
  }
  void OnCancel() final {
    loop_.Post([this] { End(absl::CancelledError("the call was cancelled")); });
  }
  void OnDone() final {
    loop_.Post([this] {
      open_.Remove(this);
      OnClose();
      delete this;
    });
  }

  // Finishes the call; nothing is written after it. Idempotent.
  void End(const absl::Status& status) override {
    if (ended_) return;
    ended_ = true;
    OnEnd();
    this->Finish(ToGrpc(status));
  }

 protected:
  // Called by the subclass when it is complete; the stream begins on the loop.
  void PostBegin() {
    loop_.Post([this] {
      if (!open_.Add(this)) return End(absl::UnavailableError("the coordinator is stopping"));
      if (!ended_) OnBegin();
    });
  }

  // One write at a time: only while !writing() and !ended().
  void Write(Response response) {
    WEFT_CHECK(!writing_ && !ended_);
    writing_ = true;
    outgoing_ = std::move(response);
    this->StartWrite(&outgoing_);
  }
  // A callback that does nothing once the stream is gone. For answers that come back to the loop.
  template <class Call>
  auto WhileAlive(Call call) {
    return
        [alive = std::weak_ptr<const bool>(alive_), call = std::move(call)](auto result) mutable {
          if (!alive.expired()) call(std::move(result));
        };
  }
  [[nodiscard]] bool writing() const { return writing_; }
  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] EventLoop& loop() const { return loop_; }

  // All on the loop.
  virtual void OnBegin() = 0;
  virtual void OnWritten() = 0;  // a write is done and the stream has not ended
  virtual void OnEnd() {}        // once, before the status is sent
  virtual void OnClose() {}      // just before the stream is deleted

 private:
  EventLoop& loop_;
  OpenStreams& open_;
  Response outgoing_;
  bool writing_ = false;
  bool ended_ = false;
  const std::shared_ptr<const bool> alive_ = std::make_shared<const bool>(true);
};

template <class Response>
using LoopWriter = LoopStream<grpc::ServerWriteReactor<Response>, Response>;
template <class Request, class Response>
using LoopBidi = LoopStream<grpc::ServerBidiReactor<Request, Response>, Response>;

}  // namespace weft::coordinator
