// The line between the agents of one gang, both ends: the lead's agent asks the others to run the
// daemons that start their relays (peer.proto).
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/base/strong_int.h"
#include "weft/v1/peer.grpc.pb.h"
#include "worker/agent/agent_types.h"

namespace weft::worker {

// The exit status of the daemon, or why there is none.
using DaemonResult = absl::StatusOr<int>;

// The asked side: hands every call to the agent and answers when the agent says so.
class PeerServer final : public v1::PeerService::CallbackService {
 public:
  using CallId = StrongInt<struct PeerCallIdTag>;
  // Called on gRPC's threads.
  struct Callbacks {
    std::function<void(CallId, MemberKey, std::string command)> on_request;
    // The caller is gone, or does not want it any more. Finish must still be called.
    std::function<void(CallId)> on_cancel;
  };

  explicit PeerServer(Callbacks callbacks) : callbacks_(std::move(callbacks)) {}

  // Answers a call; one that is over is ignored. Any thread.
  void Finish(CallId call, const DaemonResult& result);
  // Answers all calls with kUnavailable and refuses further ones: before the server shuts down.
  void FinishAll();

  grpc::ServerUnaryReactor* RunRelayDaemon(grpc::CallbackServerContext* context,
                                           const v1::RunRelayDaemonRequest* request,
                                           v1::RunRelayDaemonResponse* response) override;

 private:
  class Call;
  void Forget(CallId call);

  const Callbacks callbacks_;
  absl::Mutex mutex_;
  std::map<CallId, Call*> calls_ ABSL_GUARDED_BY(mutex_);  // each deletes itself when done
  CallId last_call_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

// The asking side: one call. It lives as long as the daemon there, so it has no deadline; that the
// peer's host is gone is noticed by keep-alive. It waits for a connection until it is cancelled.
class PeerCall {
 public:
  // `on_end` comes exactly once, on a thread of gRPC's. kUnavailable: the connection broke.
  // Null credentials: not encrypted.
  static std::shared_ptr<PeerCall> Start(
      const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
      const MemberKey& key, const std::string& command, std::function<void(DaemonResult)> on_end);
  // The peer kills the daemon; on_end comes with kCancelled.
  void Cancel() { context_.TryCancel(); }
  // Whether there is a connection to the peer.
  [[nodiscard]] bool Connected() const {
    return channel_->GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY;
  }

 private:
  PeerCall() = default;

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::PeerService::Stub> stub_;
  grpc::ClientContext context_;
  v1::RunRelayDaemonRequest request_;
  v1::RunRelayDaemonResponse response_;
};

}  // namespace weft::worker
