// MemberProcesses: the processes of this worker's members: ranks, and for gangs of several workers
// the relay site and, at the lead, mpirun. It does what the core's actions say and tells the core
// what became of it.
//
// Loop thread only; what the supervisor says on its thread is posted to the loop, except output,
// which goes straight to the log spool.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/process/process_supervisor.h"
#include "common/time/event_loop.h"
#include "weft/v1/rank_link.pb.h"
#include "weft/v1/worker.pb.h"
#include "weft/v1/worker_link.pb.h"
#include "worker/agent/agent_types.h"
#include "worker/agent/relay_daemons.h"
#include "worker/relay/relay_launcher.h"

namespace weft::worker {

class MemberProcesses {
 public:
  struct Options {
    std::vector<v1::Device> devices;  // by index
    std::string rank_program;         // weft-rank
    std::string relay_program;        // weft-relay
    // For gangs of several workers.
    absl::StatusOr<RelayPrograms> relay_programs = absl::UnavailableError("not looked for");
    std::vector<std::string> environment;  // of all children, NAME=value
    std::string shell_socket;              // of the RemoteShellServer
    std::filesystem::path scratch;         // for relays
    std::string data_root;
    // RelayLauncherOptions::interfaces for gangs that are not on this machine alone.
    std::string interfaces;
    absl::Duration relay_start_timeout = absl::Seconds(15);
  };
  struct Callbacks {
    std::function<void(AgentEvent)> on_event;
    // From a rank, in order: what is no event of the core.
    std::function<void(const MemberKey&, const v1::StepReport&)> on_step;
    std::function<void(const MemberKey&, int rank, const v1::RankStep&)> on_rank_step;
    // On the supervisor's thread. `rank` is -1 for the relays.
    std::function<void(const MemberKey&, int rank, OutputStream, absl::string_view)> on_output;
    std::function<void(const MemberKey&, int rank)> on_output_end;
  };

  MemberProcesses(Options options, EventLoop& loop, ProcessSupervisor& supervisor,
                  RelayDaemons& daemons, Callbacks callbacks);

  void Do(const SpawnMember& action);
  void Do(const AskToSave& action);
  void Do(const AbortExchange& action);
  void Do(const KillMember& action);
  void Do(const ReleaseMember& action);
  void Do(const RunDaemon& action);

  // A rank whose process lives.
  struct RankProcess {
    int device_index = 0;
    pid_t pid = 0;
  };
  [[nodiscard]] std::vector<RankProcess> running_ranks() const;

 private:
  struct Live {
    MemberKey key;
    v1::StartMember order;
    std::unique_ptr<RelaySite> site;  // of gangs with relays
    std::map<int, ChildId> ranks;
    std::set<int> done;        // ranks that said that they ended well
    bool ended_badly = false;  // a rank's process ended without having said so
    std::optional<ChildId> launcher;
    // What the launcher prints is of interest. Its output comes on the supervisor's thread.
    std::shared_ptr<std::atomic<bool>> hears_launcher = std::make_shared<std::atomic<bool>>(true);
    std::string token;  // of the gang, at its lead
  };

  Live* Find(const MemberKey& key);
  absl::Status MakeSite(Live& live, const MemberOrder& order);
  absl::Status SpawnRank(Live& live, const MemberOrder& order, int local_rank);
  // The relay itself for a gang on this worker alone, else the mpirun that starts all relays.
  absl::Status SpawnLauncher(Live& live, const MemberOrder& order);
  static GangRoute RouteOf(const Live& live, const MemberOrder& order);
  [[nodiscard]] RelayGang GangOf(const Live& live) const;
  [[nodiscard]] RelayLauncher LauncherOf(const Live& live) const;
  void OnRankMessage(const MemberKey& key, int rank, const absl::StatusOr<std::string>& bytes);
  void OnRankExit(const MemberKey& key, int rank, ExitStatus status);
  void OnLauncherExit(const MemberKey& key, ExitStatus status);

  const Options options_;
  EventLoop& loop_;
  ProcessSupervisor& supervisor_;
  RelayDaemons& daemons_;
  const Callbacks callbacks_;
  std::map<MemberKey, Live> live_;
};

}  // namespace weft::worker
