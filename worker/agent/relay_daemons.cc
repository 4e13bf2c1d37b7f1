#include "worker/agent/relay_daemons.h"

#include <csignal>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/log/log.h"

namespace weft::worker {

RelayDaemons::RelayDaemons(Options options, EventLoop& loop, ProcessSupervisor& supervisor,
                           Callbacks callbacks)
    : options_(std::move(options)),
      loop_(loop),
      supervisor_(supervisor),
      callbacks_(std::move(callbacks)) {}

absl::StatusOr<std::unique_ptr<RelayDaemons>> RelayDaemons::Start(const Options& options,
                                                                  EventLoop& loop,
                                                                  ProcessSupervisor& supervisor,
                                                                  Callbacks callbacks) {
  auto daemons =
      absl::WrapUnique(new RelayDaemons(options, loop, supervisor, std::move(callbacks)));
  RelayDaemons* self = daemons.get();
  RemoteShellServer::Callbacks shell;
  shell.on_request = [self](Session session, RemoteShellRequest request) {
    self->loop_.Post(
        [self, session, request = std::move(request)] { self->OnShellRequest(session, request); });
  };
  shell.on_hangup = [self](Session session) {
    self->loop_.Post([self, session] { self->OnShellHangup(session); });
  };
  WEFT_ASSIGN_OR_RETURN(daemons->shell_server_,
                        RemoteShellServer::Listen(options.shell_socket, std::move(shell)));

  PeerServer::Callbacks peers;
  peers.on_request = [self](CallId call, MemberKey key, std::string command) {
    self->loop_.Post([self, call, key = std::move(key), command = std::move(command)] {
      self->peer_requests_[call] = self->Add(Request{key, command,
                                                     [self, call](const DaemonResult& result) {
                                                       self->peer_requests_.erase(call);
                                                       self->peer_server_->Finish(call, result);
                                                     },
                                                     std::nullopt});
      self->callbacks_.on_event(DaemonRequested{self->peer_requests_[call], key});
    });
  };
  peers.on_cancel = [self](CallId call) {
    self->loop_.Post([self, call] {
      const auto found = self->peer_requests_.find(call);
      if (found != self->peer_requests_.end()) self->Abandon(found->second);
    });
  };
  daemons->peer_server_ = std::make_unique<PeerServer>(std::move(peers));
  GrpcServer::Options server_options;
  server_options.listen = options.listen;
  server_options.credentials = options.server_credentials;
  grpc::Service* services[] = {daemons->peer_server_.get()};
  WEFT_ASSIGN_OR_RETURN(daemons->server_, GrpcServer::Start(server_options, services));
  daemons->server_->SetServing(true);
  return daemons;
}

RelayDaemons::~RelayDaemons() { Shutdown(); }

void RelayDaemons::Shutdown() {
  for (const auto& [session, remote] : remote_) remote.call->Cancel();
  {
    const absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](int* open) { return *open == 0; }, &open_calls_));
  }
  shell_server_.reset();
  if (peer_server_ != nullptr) peer_server_->FinishAll();
  if (server_ != nullptr) server_->Shutdown(absl::ZeroDuration());
}

void RelayDaemons::AddGang(const std::string& token, GangRoute route) {
  gangs_[token] = std::move(route);
}

void RelayDaemons::RemoveGang(const std::string& token) { gangs_.erase(token); }

// --- the lead -----------------------------------------------------------------------------------

void RelayDaemons::OnShellRequest(Session session, const RemoteShellRequest& request) {
  const auto gang = gangs_.find(request.token);
  const std::optional<int> member = MemberIndexOf(request.host);
  if (gang == gangs_.end() || !member.has_value() || *member < 0 ||
      *member >= static_cast<int>(gang->second.addresses.size())) {
    shell_server_->Finish(session, kAgentLostStatus, "this gang does not run here any more");
    return;
  }
  const GangRoute& route = gang->second;
  if (*member != route.own_index) return CallPeer(session, route, *member, request.command);
  const DaemonRequestId id =
      Add(Request{route.key, request.command,
                  [this, session](const DaemonResult& result) {
                    shell_requests_.erase(session);
                    shell_server_->Finish(session, result.ok() ? *result : kAgentLostStatus,
                                          result.status().message());
                  },
                  std::nullopt});
  shell_requests_[session] = id;
  callbacks_.on_event(DaemonRequested{id, route.key});
}

void RelayDaemons::OnShellHangup(Session session) {
  if (const auto remote = remote_.find(session); remote != remote_.end()) {
    remote->second.call->Cancel();
  }
  if (const auto local = shell_requests_.find(session); local != shell_requests_.end()) {
    Abandon(local->second);
  }
}

void RelayDaemons::CallPeer(Session session, const GangRoute& route, int member,
                            const std::string& command) {
  const std::string& worker = route.workers[static_cast<size_t>(member)];
  {
    const absl::MutexLock lock(&mutex_);
    ++open_calls_;
  }
  const auto on_end = [this, session, worker](const DaemonResult& result) {
    loop_.Post([this, session, worker, result] { OnPeerCallEnded(session, worker, result); });
    const absl::MutexLock lock(&mutex_);
    --open_calls_;  // the last thing: Shutdown waits for it
  };
  const std::string& address = route.addresses[static_cast<size_t>(member)];
  const TimerId contact =
      loop_.RunAt(loop_.clock().Now() + options_.peer_contact_timeout,
                  [this, session, worker] { OnContactTimeout(session, worker); });
  remote_[session] = RemoteDaemon{
      route.key, address,
      PeerCall::Start(address, options_.channel_credentials, route.key, command, on_end), contact};
}

void RelayDaemons::OnContactTimeout(Session session, const std::string& worker) {
  const auto found = remote_.find(session);
  // A call whose connection breaks ends by itself.
  if (found == remote_.end() || found->second.call->Connected()) return;
  found->second.call->Cancel();  // what it says of that is not heard
  OnPeerCallEnded(
      session, worker,
      absl::UnavailableError(absl::StrCat("no connection to ", found->second.address, " within ",
                                          absl::FormatDuration(options_.peer_contact_timeout))));
}

void RelayDaemons::OnPeerCallEnded(Session session, const std::string& worker,
                                   const DaemonResult& result) {
  const auto found = remote_.find(session);
  if (found == remote_.end()) return;
  const MemberKey key = found->second.key;
  const std::string address = found->second.address;
  loop_.Cancel(found->second.contact);
  remote_.erase(found);
  if (absl::IsUnavailable(result.status())) {
    callbacks_.explain(address, [worker, address](const std::string& why) {
      if (why.empty()) return;
      LogWarning("relays", "a peer cannot be called",
                 {{"worker", worker}, {"address", address}, {"why", why}});
    });
  }
  const std::string how =
      result.ok()
          ? ""
          : absl::StrCat("worker ", worker,
                         " did not run its part of the relays: ", result.status().message());
  // First the cause, then what mpirun makes of it.
  if (!result.ok() && !absl::IsCancelled(result.status())) {
    callbacks_.on_event(PeerUnreachable{key, how});
  }
  shell_server_->Finish(session, result.ok() ? *result : kAgentLostStatus, how);
}

// --- every member -------------------------------------------------------------------------------

DaemonRequestId RelayDaemons::Add(Request request) {
  last_request_ = last_request_.Next();
  requests_[last_request_] = std::move(request);
  return last_request_;
}

void RelayDaemons::Run(const RunDaemon& action, const RelaySite& site) {
  const DaemonRequestId id = action.request;
  const auto found = requests_.find(id);
  if (found == requests_.end()) {
    return callbacks_.on_event(
        RelayEnded{action.key, RelayPart::kDaemon, false, "was not wanted any more"});
  }
  Request& request = found->second;
  const CommandLine line = site.Shell(request.command, options_.environment);
  ChildOptions options;
  options.program = line.program;
  options.arguments = line.arguments;
  options.environment = line.environment;
  options.directory = line.working_directory;
  ChildCallbacks callbacks;
  callbacks.on_output = [this, key = request.key](OutputStream, absl::string_view text) {
    callbacks_.on_output(key, text);
  };
  callbacks.on_exit = [this, id](ExitStatus status) {
    loop_.Post([this, id, status] { OnDaemonExit(id, status); });
  };
  absl::StatusOr<ChildId> child = supervisor_.Spawn(options, std::move(callbacks));
  if (child.ok()) {
    request.child = *child;
    return;
  }
  const MemberKey key = request.key;
  Refuse(id, child.status());
  callbacks_.on_event(RelayEnded{key, RelayPart::kDaemon, false,
                                 absl::StrCat("could not start: ", child.status().message())});
}

void RelayDaemons::Refuse(DaemonRequestId id, const absl::Status& why) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  const Request request = std::move(found->second);
  requests_.erase(found);
  request.answer(why);
}

void RelayDaemons::Abandon(DaemonRequestId id) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  if (found->second.child.has_value()) {
    supervisor_.Signal(*found->second.child, SIGKILL);  // the answer follows its end
    return;
  }
  callbacks_.on_event(DaemonRequestCancelled{id});
  Refuse(id, absl::CancelledError("nobody waits for this daemon any more"));
}

void RelayDaemons::OnDaemonExit(DaemonRequestId id, ExitStatus status) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  const Request request = std::move(found->second);
  requests_.erase(found);
  request.answer(status.ShellCode());
  callbacks_.on_event(RelayEnded{request.key, RelayPart::kDaemon, status.ok(), status.ToString()});
}

void RelayDaemons::Kill(const MemberKey& key) {
  for (const auto& [id, request] : requests_) {
    if (request.key == key && request.child.has_value()) {
      supervisor_.Signal(*request.child, SIGKILL);
    }
  }
  for (const auto& [session, remote] : remote_) {
    if (remote.key == key) remote.call->Cancel();
  }
}

}  // namespace weft::worker
