// LinkKeeper: keeps a line to the coordinator open. It connects, and connects again with growing
// pauses for as long as it lives, says Hello, waits for the welcome, and sends heartbeats. A stream
// that is over, or was never welcomed, is not seen from outside.
//
// Loop thread only, except where noted.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/time/event_loop.h"
#include "weft/v1/worker_link.pb.h"
#include "worker/agent/backoff.h"
#include "worker/agent/coordinator_link.h"

namespace weft::worker {

class LinkKeeper {
 public:
  struct Callbacks {
    // host:port of the coordinator, asked before each attempt. Of several, comma separated, one
    // leads, and only that one takes connections.
    std::function<absl::StatusOr<std::string>()> address;
    std::function<v1::Hello()> hello;
    std::function<v1::Heartbeat()> heartbeat;  // without its sequence number
    std::function<void()> on_up;
    std::function<void()> on_down;
    std::function<void(const v1::CoordinatorMessage&)> on_message;  // between up and down
    // The coordinator will have nothing to do with us; no further attempt is made.
    std::function<void(const absl::Status&)> on_refused;
    // Nobody answered at this address: finds out whether TLS is why, and says it in words (empty:
    // it is not) on the loop, later. May be null.
    std::function<void(const std::string& address, std::function<void(std::string)>)> explain;
  };

  // Callbacks come on `loop`, which outlives the keeper. Null credentials: not encrypted.
  LinkKeeper(EventLoop& loop, Callbacks callbacks,
             std::shared_ptr<grpc::ChannelCredentials> credentials);
  // No stream may be open: Close.
  ~LinkKeeper();
  LinkKeeper(const LinkKeeper&) = delete;
  LinkKeeper& operator=(const LinkKeeper&) = delete;

  // Begins to connect. Once.
  void Open();
  // Sends what is queued, then ends the stream; no further attempt, no callback.
  void Finish();
  // Ends all at once and waits until gRPC lets go of every stream. From any thread but the loop's,
  // while the loop runs.
  void Close();

  // Drops the message while the line is down.
  void Send(v1::WorkerMessage message);
  void SendHeartbeat();

  [[nodiscard]] bool up() const { return up_; }  // any thread
  // Bytes that gRPC has not taken yet; 0 while the line is down.
  [[nodiscard]] int64_t queued_bytes() const;
  [[nodiscard]] absl::Time last_heartbeat() const { return last_heartbeat_; }

 private:
  void Connect();
  struct Coordinator {
    std::shared_ptr<grpc::Channel> channel;
    // It took a connection, but another one did so later, or it gave no welcome: a former leader
    // that is stopped keeps its connections, and says nothing. Until the connection breaks.
    bool doubtful = false;

    // Whether it takes connections. Tries to make one, and forgets doubts where there is none.
    bool Ready();
  };

  // The address to try next, with its channel in coordinators_; empty: none takes connections.
  std::string Choose(const std::string& addresses);
  // Whether a coordinator at another address has begun to take connections.
  bool AnotherServes();
  void ConnectLater(const absl::Status& why);
  void Explain(const absl::Status& why);
  void Complain(const std::string& trouble, const std::string& why);
  void OnMessage(int64_t attempt, const v1::CoordinatorMessage& message);
  void OnEnd(int64_t attempt, const absl::Status& status);
  void OnWelcome(const v1::Welcome& welcome);
  void BeatAgain();

  EventLoop& loop_;
  const Callbacks callbacks_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  std::map<std::string, Coordinator> coordinators_;  // by address
  std::string address_;                              // tried last
  std::unique_ptr<CoordinatorLink> link_;
  int64_t attempt_ = 0;  // numbers the streams: what an old one says is ignored
  std::atomic<bool> up_ = false;
  bool closed_ = false;
  std::string last_trouble_;  // that was logged
  Backoff backoff_;
  absl::Duration heartbeat_interval_;
  int64_t heartbeat_sequence_ = 0;
  absl::Time last_heartbeat_ = absl::InfinitePast();

  absl::Mutex mutex_;
  int open_streams_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weft::worker
