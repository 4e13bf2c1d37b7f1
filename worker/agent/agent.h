// Agent: a worker's long-lived process. It keeps the line to the coordinator, asks its core what
// follows from everything that happens, and does it: starts and ends ranks and relays, reports,
// sends logs.
//
// Threads: one loop owns all state; the supervisor's thread reads the children's output into the
// log spool; a second loop reads the spool and sends it; gRPC's threads only post.
#pragma once

#include <atomic>
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
#include "common/process/process_supervisor.h"
#include "common/time/real_event_loop.h"
#include "worker/agent/agent_core.h"
#include "worker/agent/backoff.h"
#include "worker/agent/coordinator_link.h"
#include "worker/agent/line_splitter.h"
#include "worker/agent/log_shipper.h"
#include "worker/agent/log_spool.h"
#include "worker/agent/member_processes.h"
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
  std::string state_directory;           // absolute; the caller holds its lock
  std::vector<v1::Device> devices;       // at least one
  std::string listen = "127.0.0.1:0";    // of the PeerService
  std::string advertise;                 // where peers reach it; empty: where it listens
  std::string interfaces;                // RelayLauncherOptions::interfaces
  std::string data_root;                 // absolute
  std::string program_directory;         // of weft-rank, weft-relay, weft-rsh
  std::vector<std::string> environment;  // of all children, NAME=value
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

  // --- the core ---
  void Feed(AgentEvent event);
  void Perform(const AgentAction& action);
  void Do(const SpawnMember& action);
  void Do(const SendReport& action);
  void Do(const SendHeartbeat& action);
  void Do(const Quit& action);
  void SetWakeup();

  // --- the link ---
  void Connect();
  void ConnectLater(const absl::Status& why);
  void OnLinkMessage(int64_t attempt, v1::CoordinatorMessage message);
  void OnLinkEnd(int64_t attempt, const absl::Status& status);
  void OnWelcome(const v1::Welcome& welcome);
  void Handle(const v1::CoordinatorMessage& message);
  v1::WorkerMessage MakeHello() const;
  void Send(v1::WorkerMessage message);
  void BeatAgain();
  void SendBeat();
  void FlushSteps();

  // --- the rest ---
  void OnStep(const MemberKey& key, const v1::StepReport& step);
  void OnOutput(const MemberKey& key, int rank, OutputStream stream, absl::string_view text);
  void OnOutputEnd(const MemberKey& key, int rank);
  void SweepSpool();
  void Measure();
  void End(absl::Status result);
  void EndWhenLogsAreSent(absl::Time deadline);

  const AgentOptions options_;
  MetricsSink& metrics_;
  std::string peer_address_;
  absl::StatusOr<RelayPrograms> relay_programs_ = absl::UnavailableError("not looked for");

  std::unique_ptr<LogSpool> spool_;
  // Output of a child, cut into lines: on the supervisor's thread only.
  struct OutputKey {
    MemberKey member;
    int rank;
    OutputStream stream;
    friend auto operator<=>(const OutputKey&, const OutputKey&) = default;
  };
  std::map<OutputKey, LineSplitter> splitters_;

  // The loop's.
  AgentCore core_;
  std::vector<AgentEvent> waiting_events_;
  bool stepping_ = false;
  std::optional<TimerId> wakeup_;
  std::shared_ptr<grpc::Channel> channel_;
  std::string channel_address_;
  std::unique_ptr<CoordinatorLink> link_;
  int64_t attempt_ = 0;  // numbers the streams: what an old one says is ignored
  bool welcomed_ = false;
  std::string last_trouble_;  // that was logged about the link
  Backoff backoff_;
  absl::Duration heartbeat_interval_ = absl::Seconds(1);
  int64_t heartbeat_sequence_ = 0;
  absl::Time last_heartbeat_ = absl::InfinitePast();
  StepBuffer steps_;
  bool flush_pending_ = false;
  std::map<MemberKey, absl::Time> starting_;  // members that have not begun to train
  ReportId last_counted_;
  bool ending_ = false;

  std::atomic<bool> ready_ = false;
  mutable absl::Mutex mutex_;
  int open_streams_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status result_ ABSL_GUARDED_BY(mutex_);
  absl::Notification done_;

  // Threads end in the order of the destructor.
  std::unique_ptr<RealEventLoop> loop_;
  std::unique_ptr<RealEventLoop> disk_loop_;
  std::unique_ptr<ProcessSupervisor> supervisor_;
  std::unique_ptr<RelayDaemons> daemons_;
  std::unique_ptr<MemberProcesses> members_;
  std::unique_ptr<SamplerProcesses> samplers_;
  std::unique_ptr<LogShipper> shipper_;
};

}  // namespace weft::worker
