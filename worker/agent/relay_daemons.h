// RelayDaemons: mpirun asks, through weft-rsh, for a daemon on every host of a gang. The lead's
// agent passes each request on to the host's agent (itself included), and that one runs the daemon
// once its core agrees. This is the part that both sides do.
//
// Loop thread only; what comes from other threads is posted to the loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/process/process_supervisor.h"
#include "common/rpc/grpc_server.h"
#include "common/rpc/tls_credentials.h"
#include "common/time/event_loop.h"
#include "worker/agent/agent_types.h"
#include "worker/agent/peer_link.h"
#include "worker/relay/relay_launcher.h"
#include "worker/relay/remote_shell.h"

namespace weft::worker {

// A gang that this worker leads: where its members' agents are.
struct GangRoute {
  MemberKey key;
  std::vector<std::string> workers;    // names, by member
  std::vector<std::string> addresses;  // of their PeerServices
  int own_index = 0;
};

class RelayDaemons {
 public:
  struct Options {
    std::string listen;  // of the PeerService
    // Of the PeerService, and of calls to others; null: not encrypted.
    std::shared_ptr<grpc::ServerCredentials> server_credentials;
    std::shared_ptr<grpc::ChannelCredentials> channel_credentials;
    std::string shell_socket;                                 // of the RemoteShellServer
    std::vector<std::string> environment;                     // of the daemons, NAME=value
    absl::Duration peer_contact_timeout = absl::Seconds(10);  // as in AgentPolicy
  };
  struct Callbacks {
    std::function<void(AgentEvent)> on_event;
    // What a daemon printed, whole lines not kept. On the supervisor's thread.
    std::function<void(const MemberKey&, absl::string_view)> on_output;
    // Nobody answered at this address: finds out whether TLS is why, and says it in words (empty:
    // it is not) on the loop, later.
    std::function<void(const std::string& address, std::function<void(std::string)>)> explain;
  };

  static absl::StatusOr<std::unique_ptr<RelayDaemons>> Start(const Options& options,
                                                             EventLoop& loop,
                                                             ProcessSupervisor& supervisor,
                                                             Callbacks callbacks);
  // Shuts down.
  ~RelayDaemons();
  RelayDaemons(const RelayDaemons&) = delete;
  RelayDaemons& operator=(const RelayDaemons&) = delete;

  [[nodiscard]] const std::string& address() const { return server_->address(); }
  // Ends all calls from and to peers. The loop must have been stopped. Idempotent.
  void Shutdown();

  // From now on weft-rsh is served for the gang that knows `token`.
  void AddGang(const std::string& token, GangRoute route);
  void RemoveGang(const std::string& token);

  // The core's answers to DaemonRequested.
  void Run(const RunDaemon& action, const RelaySite& site);
  void Refuse(DaemonRequestId request, const absl::Status& why);
  // Kills the daemons of a member and cancels those that peers run for a gang it leads.
  void Kill(const MemberKey& key);

 private:
  // Somebody wants a daemon on this host: weft-rsh here, or the lead's agent.
  struct Request {
    MemberKey key;
    std::string command;
    std::function<void(DaemonResult)> answer;
    std::optional<ChildId> child;  // once it runs
  };
  // weft-rsh of this host waits for a daemon of another host.
  struct RemoteDaemon {
    MemberKey key;
    std::string address;
    std::shared_ptr<PeerCall> call;
    TimerId contact;  // until then there must be a connection
  };
  using Session = RemoteShellServer::Session;
  using CallId = PeerServer::CallId;

  RelayDaemons(Options options, EventLoop& loop, ProcessSupervisor& supervisor,
               Callbacks callbacks);

  void OnShellRequest(Session session, const RemoteShellRequest& request);
  void OnShellHangup(Session session);
  void CallPeer(Session session, const GangRoute& route, int member, const std::string& command);
  void OnContactTimeout(Session session, const std::string& worker);
  void OnPeerCallEnded(Session session, const std::string& worker, const DaemonResult& result);
  DaemonRequestId Add(Request request);
  void Abandon(DaemonRequestId request);
  void OnDaemonExit(DaemonRequestId request, ExitStatus status);

  const Options options_;
  EventLoop& loop_;
  ProcessSupervisor& supervisor_;
  const Callbacks callbacks_;
  std::map<std::string, GangRoute> gangs_;  // by token
  std::map<DaemonRequestId, Request> requests_;
  DaemonRequestId last_request_;
  std::map<Session, DaemonRequestId> shell_requests_;
  std::map<CallId, DaemonRequestId> peer_requests_;
  std::map<Session, RemoteDaemon> remote_;
  absl::Mutex mutex_;
  int open_calls_ ABSL_GUARDED_BY(mutex_) = 0;  // to peers

  std::unique_ptr<RemoteShellServer> shell_server_;
  std::unique_ptr<PeerServer> peer_server_;
  std::unique_ptr<GrpcServer> server_;
};

}  // namespace weft::worker
