// AgentCore: all decisions of a worker's agent, as a pure state machine. The executor (agent.h)
// brings events, does what the actions say, and brings back what came of it; a simulation does the
// same with time and messages of its own.
//
// What it keeps:
//  - The fence. A generation below the newest one heard of for its job does nothing; a newer one
//    first ends the older one completely, and only then starts.
//  - One report for every start: exits and checkpoints go out again until they are acknowledged,
//    through any number of lost connections.
//  - Ranks do not depend on the link: while the coordinator is away they train on.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "worker/agent/agent_types.h"
#include "worker/agent/member.h"

namespace weft::worker {

class AgentCore {
 public:
  explicit AgentCore(AgentPolicy policy) : policy_(policy) {}

  // What follows from `event`, in this order.
  std::vector<AgentAction> Step(const AgentEvent& event, absl::Time now);
  // When TimePassed is due, unless another event comes first; infinite: nothing to wait for.
  [[nodiscard]] absl::Time NextWakeup() const;

  // What a heartbeat says: all that runs or is about to, and all ends that are not acknowledged.
  [[nodiscard]] std::vector<MemberSnapshot> Running() const;
  [[nodiscard]] std::vector<Report> UnacknowledgedExits() const;
  // Shutting down.
  [[nodiscard]] bool leaving() const { return shutdown_.has_value(); }

 private:
  using Actions = std::vector<AgentAction>;

  void On(const LinkRestored& event, absl::Time now, Actions& actions);
  void On(const LinkLost& event, absl::Time now, Actions& actions);
  void On(const StartReceived& event, absl::Time now, Actions& actions);
  void On(const StopReceived& event, absl::Time now, Actions& actions);
  void On(const AcknowledgementReceived& event, absl::Time now, Actions& actions);
  void On(const RankAdvanced& event, absl::Time now, Actions& actions);
  void On(const RankFinished& event, absl::Time now, Actions& actions);
  void On(const RankEnded& event, absl::Time now, Actions& actions);
  void On(const CheckpointWritten& event, absl::Time now, Actions& actions);
  void On(const RelayEnded& event, absl::Time now, Actions& actions);
  void On(const PeerUnreachable& event, absl::Time now, Actions& actions);
  void On(const DaemonRequested& event, absl::Time now, Actions& actions);
  void On(const DaemonRequestCancelled& event, absl::Time now, Actions& actions);
  void On(const ShutdownRequested& event, absl::Time now, Actions& actions);
  void On(const TimePassed& event, absl::Time now, Actions& actions);

  // The newest generation heard of, and when: the fence of one job.
  struct Fence {
    Generation newest;
    absl::Time touched;
  };
  struct WaitingDaemon {
    MemberKey key;
    absl::Time deadline;
  };

  Member* Find(const MemberKey& key);
  void Launch(MemberOrder order, absl::Time now, Actions& actions);
  // Collects reports, removes what is gone, starts what waited for that.
  void Settle(absl::Time now, Actions& actions);
  void SettleMember(const std::string& job, absl::Time now, Actions& actions);
  void File(std::variant<ExitReport, CheckpointReport> content, absl::Time now, Actions& actions);
  void FileUnstarted(const MemberKey& key, std::string message, absl::Time now, Actions& actions);
  void Send(const Report& report, Actions& actions) const;
  void RaiseFence(const MemberKey& key, absl::Time now);
  void AnswerWaitingDaemons(const MemberKey& key, Actions& actions);
  void RefuseLateDaemons(absl::Time now, Actions& actions);
  void FinishShutdown(absl::Time now, Actions& actions);

  AgentPolicy policy_;
  absl::Time last_step_ = absl::InfiniteFuture();  // the `now` of the step before
  bool link_up_ = false;
  std::map<std::string, Fence> fences_;                     // by job
  std::map<std::string, std::unique_ptr<Member>> members_;  // by job: never two of one
  std::map<std::string, MemberOrder> successors_;           // wait for the member above to go
  std::map<ReportId, Report> reports_;                      // not acknowledged
  ReportId last_report_;
  absl::Time next_resend_ = absl::InfiniteFuture();
  std::map<DaemonRequestId, WaitingDaemon> waiting_daemons_;

  std::optional<ShutdownRequested> shutdown_;
  absl::Time nothing_runs_since_ = absl::InfiniteFuture();  // while shutting down
  bool quit_ = false;
};

}  // namespace weft::worker
