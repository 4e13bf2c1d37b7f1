// Agent: a worker's long-lived process. It keeps the line to the coordinator, asks its core what
// follows from everything that happens, and does it: starts and ends ranks and relays, reports,
// sends logs.
//
// Threads: one loop owns all state; the supervisor's thread reads the children's output into the
// log spool; a second loop reads the spool and sends it; gRPC's threads only post.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "common/metrics/metrics_sink.h"
#include "common/metrics/process_metrics.h"
#include "common/process/process_supervisor.h"
#include "common/rpc/tls_credentials.h"
#include "common/time/real_event_loop.h"
#include "common/tls/certificate_metric.h"
#include "worker/agent/agent_core.h"
#include "worker/agent/exit_gate.h"
#include "worker/agent/gpu_metrics.h"
#include "worker/agent/link_keeper.h"
#include "worker/agent/log_shipper.h"
#include "worker/agent/log_spool.h"
#include "worker/agent/member_processes.h"
#include "worker/agent/output_log.h"
#include "worker/agent/rank_metrics.h"
#include "worker/agent/relay_daemons.h"
#include "worker/agent/sampler_processes.h"
#include "worker/agent/step_buffer.h"

namespace weft::worker {

inline constexpr int kProtocolVersion = 1;

struct AgentOptions {
  std::string name;
  std::string version;
  std::string incarnation;  // new with every start of the process
  // Where the coordinator is now, asked before each attempt to connect: host:port.
  std::function<absl::StatusOr<std::string>()> coordinator;
  // Of the line to the coordinator and of those to and from peers; made from `tls`. Null, and no
  // files: not encrypted.
  std::shared_ptr<grpc::ChannelCredentials> channel_credentials;
  std::shared_ptr<grpc::ServerCredentials> server_credentials;
  TlsFiles tls;
  std::string state_directory;                      // absolute; the caller holds its lock
  std::vector<v1::Device> devices;                  // at least one
  std::string listen = "127.0.0.1:0";               // of the PeerService
  std::string advertise;                            // where peers reach it; empty: where it listens
  std::string interfaces;                           // RelayLauncherOptions::interfaces
  std::string data_root;                            // absolute
  std::string program_directory;                    // of weft-rank, weft-relay, weft-rsh
  std::vector<std::string> environment;             // of all children, NAME=value
  absl::Duration hang_timeout = absl::Seconds(10);  // a loop stuck for longer is not alive
  int protocol_version = kProtocolVersion;
  AgentPolicy policy;
  SpoolLimits spool;
};

class Agent {
 public:
  // Removes what earlier agents left, listens, and begins to connect; does not wait for the
  // coordinator. `metrics` outlives the agent.
  static absl::StatusOr<std::unique_ptr<Agent>> Start(AgentOptions options, MetricsSink& metrics);
  // Kills whatever still runs.
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // kSave: save checkpoints within `grace`, report, end. kKill: end at once. May come again, more
  // urgent. Any thread.
  void RequestShutdown(StopMode mode, absl::Duration grace);
  // Waits for the end: OK after a shutdown; kFailedPrecondition with the coordinator's words when
  // it refuses this worker for good.
  absl::Status Wait();

  [[nodiscard]] const std::string& peer_address() const { return peer_address_; }
  // Whether the loop still works through its tasks: kUnavailable when not.
  [[nodiscard]] absl::Status Live() const;
  // kUnavailable while the coordinator is not connected.
  [[nodiscard]] absl::Status Ready() const;

 private:
  Agent(AgentOptions options, MetricsSink& metrics);
  absl::Status Prepare();
  absl::Status MakeParts();
  void MakeProcessParts(const std::vector<std::string>& environment);

  // --- the core ---
  void Feed(AgentEvent event);
  void Perform(const AgentAction& action);
  void Do(const SpawnMember& action);
  void Do(const ReleaseMember& action);
  void Do(const SendReport& action);
  void Do(const SendHeartbeat& action);
  void Do(const Quit& action);
  void SetWakeup();

  // --- the link ---
  LinkKeeper::Callbacks LinkCallbacks();
  // Of LinkKeeper and RelayDaemons.
  std::function<void(const std::string&, std::function<void(std::string)>)> Explainer();
  v1::Hello MakeHello() const;
  v1::Heartbeat MakeHeartbeat() const;
  void OnLinkUp();
  void OnLinkDown();
  void Handle(const v1::CoordinatorMessage& message);
  void FlushSteps();

  // --- the rest ---
  void OnStep(const MemberKey& key, const v1::StepReport& step);
  void SweepSpool();
  void Measure();
  void MeasureSlowly();
  void End(absl::Status result);
  void EndWhenAllIsSent(absl::Time deadline);

  const AgentOptions options_;
  MetricsSink& metrics_;
  ProcessMetrics process_metrics_;  // the loop's
  RankMetrics rank_metrics_;        // the loop's
  GpuMetrics gpu_metrics_;          // the disk loop's
  CertificateMetric certificate_;   // the disk loop's
  std::string peer_address_;
  absl::StatusOr<RelayPrograms> relay_programs_ = absl::UnavailableError("not looked for");

  std::unique_ptr<LogSpool> spool_;
  std::unique_ptr<OutputLog> output_;

  // The loop's.
  AgentCore core_;
  std::vector<AgentEvent> waiting_events_;
  bool stepping_ = false;
  std::optional<TimerId> wakeup_;
  StepBuffer steps_;
  bool flush_pending_ = false;
  struct Starting {
    absl::Time since;
    bool with_relays = false;
  };
  std::map<MemberKey, Starting> starting_;  // members that have not begun to train
  ReportId last_counted_;
  bool ending_ = false;

  mutable absl::Mutex mutex_;
  absl::Status result_ ABSL_GUARDED_BY(mutex_);
  absl::Notification done_;

  // Threads end in the order of the destructor.
  std::unique_ptr<RealEventLoop> loop_;
  std::unique_ptr<RealEventLoop> disk_loop_;
  std::unique_ptr<LinkKeeper> link_;
  std::unique_ptr<ProcessSupervisor> supervisor_;
  std::unique_ptr<RelayDaemons> daemons_;
  std::unique_ptr<MemberProcesses> members_;
  std::unique_ptr<SamplerProcesses> samplers_;
  std::unique_ptr<LogShipper> shipper_;
  std::unique_ptr<ExitGate> exits_;
};

}  // namespace weft::worker
