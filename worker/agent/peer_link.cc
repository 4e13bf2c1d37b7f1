#include "worker/agent/peer_link.h"

#include <utility>
#include <vector>

#include "common/rpc/grpc_channel.h"
#include "common/rpc/grpc_status.h"

namespace weft::worker {

class PeerServer::Call final : public grpc::ServerUnaryReactor {
 public:
  Call(PeerServer& server, CallId id, v1::RunRelayDaemonResponse* response)
      : server_(server), id_(id), response_(response) {}

  void Answer(const DaemonResult& result) {
    if (result.ok()) response_->set_exit_status(*result);
    Finish(ToGrpc(result.status()));
  }
  void OnCancel() override { server_.callbacks_.on_cancel(id_); }
  void OnDone() override {
    server_.Forget(id_);
    delete this;
  }

 private:
  PeerServer& server_;
  const CallId id_;
  v1::RunRelayDaemonResponse* const response_;
};

grpc::ServerUnaryReactor* PeerServer::RunRelayDaemon(grpc::CallbackServerContext* /*context*/,
                                                     const v1::RunRelayDaemonRequest* request,
                                                     v1::RunRelayDaemonResponse* response) {
  CallId id;
  Call* call = nullptr;
  bool stopping = false;
  {
    const absl::MutexLock lock(&mutex_);
    last_call_ = last_call_.Next();
    id = last_call_;
    call = new Call(*this, id, response);
    stopping = stopping_;
    if (!stopping) calls_[id] = call;
  }
  if (stopping) {
    call->Answer(absl::UnavailableError("this worker is stopping"));
  } else {
    callbacks_.on_request(id, MemberKey{request->job(), Generation(request->generation())},
                          request->command());
  }
  return call;
}

void PeerServer::Finish(CallId id, const DaemonResult& result) {
  Call* call = nullptr;
  {
    const absl::MutexLock lock(&mutex_);
    const auto found = calls_.find(id);
    if (found == calls_.end()) return;
    call = found->second;
    calls_.erase(found);  // so that it is answered once
  }
  // Alive: a reactor ends only after its Finish.
  call->Answer(result);
}

void PeerServer::FinishAll() {
  std::vector<CallId> open;
  {
    const absl::MutexLock lock(&mutex_);
    stopping_ = true;
    for (const auto& [id, call] : calls_) open.push_back(id);
  }
  for (const CallId id : open) Finish(id, absl::UnavailableError("this worker is stopping"));
}

void PeerServer::Forget(CallId call) {
  const absl::MutexLock lock(&mutex_);
  calls_.erase(call);
}

std::shared_ptr<PeerCall> PeerCall::Start(
    const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
    const MemberKey& key, const std::string& command, std::function<void(DaemonResult)> on_end) {
  std::shared_ptr<PeerCall> call(new PeerCall());
  ChannelOptions options;
  options.credentials = credentials;
  call->channel_ = NewChannel(address, options);
  call->stub_ = v1::PeerService::NewStub(call->channel_);
  call->context_.set_wait_for_ready(true);
  call->request_.set_job(key.job);
  call->request_.set_generation(key.generation.value());
  call->request_.set_command(command);
  call->stub_->async()->RunRelayDaemon(
      &call->context_, &call->request_, &call->response_,
      [call, on_end = std::move(on_end)](const grpc::Status& status) {
        if (status.ok()) {
          on_end(call->response_.exit_status());
        } else {
          on_end(FromGrpc(status));
        }
      });
  return call;
}

}  // namespace weft::worker
