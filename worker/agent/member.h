// Member: the supervision of one member, from its processes' start to the report of how it ended.
// The rules:
//  - Its ranks end together: one that dies, or fails, takes the others along.
//  - What a rank says of its own end beats what its process's end looks like; a local failure beats
//    the loss of a peer, which may only be its echo (MemberOutcome's order).
//  - The loss of a peer ends nothing at once: the ranks have a moment to say more.
//  - After a good end the relays may stay for a while, because other hosts may still need them.
// Pure: no clock, no process; part of the agent's core.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "worker/agent/agent_types.h"

namespace weft::worker {

struct AgentPolicy {
  // From the spawn until every rank is past kStarting: it runs and has met its relay.
  absl::Duration start_timeout = absl::Seconds(20);
  // From the order to save until the ranks are killed. The coordinator has a shorter one.
  absl::Duration save_timeout = absl::Minutes(5);
  // From the first rank that ended well until the others must have.
  absl::Duration finish_timeout = absl::Minutes(5);
  // From a rank's last word until its process must be gone.
  absl::Duration exit_timeout = absl::Seconds(10);
  // A rank says something every second; one that is silent for this long is stopped or stuck.
  absl::Duration silence_timeout = absl::Minutes(1);
  // From the first sign of a lost peer until the ranks are killed.
  absl::Duration peer_loss_grace = absl::Seconds(1);
  // How long relays stay after this host's ranks ended well. They end at a barrier, so the others
  // are at most the way of its last message behind.
  absl::Duration relay_linger = absl::Seconds(3);
  // How long a peer's request for a daemon waits for our own order.
  absl::Duration daemon_wait = absl::Seconds(10);
  // How long a lead tries to reach the agent of another member. A network that is away for seconds
  // costs a start its time, not the job a generation.
  absl::Duration peer_contact_timeout = absl::Seconds(10);
  // Between two sendings of a report that is not acknowledged.
  absl::Duration resend_interval = absl::Seconds(2);
  // How long an agent that shuts down waits for acknowledgements once nothing runs any more.
  absl::Duration farewell = absl::Seconds(2);
};

class Member {
 public:
  // SpawnMember is among `actions` then.
  Member(MemberOrder order, const AgentPolicy& policy, absl::Time now,
         std::vector<AgentAction>& actions);

  void OnRankAdvanced(const RankAdvanced& event, absl::Time now, std::vector<AgentAction>& actions);
  void OnRankFinished(const RankFinished& event, absl::Time now, std::vector<AgentAction>& actions);
  void OnRankEnded(const RankEnded& event, std::vector<AgentAction>& actions);
  void OnRelayEnded(const RelayEnded& event, absl::Time now, std::vector<AgentAction>& actions);
  void OnPeerUnreachable(const PeerUnreachable& event, std::vector<AgentAction>& actions);
  void OnTime(absl::Time now, std::vector<AgentAction>& actions);
  // The whole host was stopped for a while: the ranks' silence meanwhile means nothing.
  void OnSuspended(absl::Time now);
  // kKill after kSave makes haste; kSave after kKill changes nothing. `deadline`: of the save.
  void Stop(StopMode mode, const std::string& reason, absl::Time deadline,
            std::vector<AgentAction>& actions);
  // Answers a peer that wants a daemon for this member's generation.
  void OnDaemonRequested(DaemonRequestId request, std::vector<AgentAction>& actions);

  // The report, once, when it is due: all ranks are gone, and after a bad end all relays too.
  std::optional<ExitReport> TakeReport(absl::Time now, std::vector<AgentAction>& actions);
  // The report was taken and no process is left.
  [[nodiscard]] bool Gone() const { return reported_ && !AnyProcess(); }

  [[nodiscard]] const MemberKey& key() const { return order_.key; }
  [[nodiscard]] bool reported() const { return reported_; }
  [[nodiscard]] MemberSnapshot Snapshot() const;
  [[nodiscard]] absl::Time NextDeadline() const;

 private:
  struct Rank {
    bool alive = true;
    bool spoke_last = false;  // its RankFinished came
    MemberPhase phase = MemberPhase::kStarting;
    absl::Time silence_deadline = absl::InfiniteFuture();
    absl::Time exit_deadline = absl::InfiniteFuture();
  };
  // Something that is known about how the member ends.
  struct Finding {
    MemberOutcome outcome;
    std::string message;
    std::optional<int> rank;
  };

  void Kill(std::vector<AgentAction>& actions);
  void AddFinding(MemberOutcome outcome, std::string message,
                  std::optional<int> rank = std::nullopt);
  [[nodiscard]] bool AnyRank() const;
  [[nodiscard]] bool AnyRelay() const { return launcher_alive_ || daemon_alive_; }
  [[nodiscard]] bool AnyProcess() const { return AnyRank() || AnyRelay(); }
  [[nodiscard]] bool AllSpokeLast() const;
  [[nodiscard]] MemberPhase Phase() const;
  void UpdatePhase(std::vector<AgentAction>& actions);
  [[nodiscard]] ExitReport MakeReport() const;

  MemberOrder order_;
  AgentPolicy policy_;
  std::map<int, Rank> ranks_;
  bool launcher_alive_ = false;
  bool daemon_alive_ = false;
  bool daemon_ran_ = false;

  MemberPhase told_phase_ = MemberPhase::kStarting;
  int64_t step_ = 0;
  std::string weights_hash_;
  std::optional<Finding> worst_;
  std::optional<StopMode> stop_;
  std::string stop_reason_;
  bool killing_ = false;
  bool reported_ = false;

  absl::Time start_deadline_;
  absl::Time save_deadline_ = absl::InfiniteFuture();
  absl::Time finish_deadline_ = absl::InfiniteFuture();
  absl::Time peer_loss_deadline_ = absl::InfiniteFuture();
  absl::Time linger_deadline_ = absl::InfiniteFuture();
};

}  // namespace weft::worker
