#include "worker/agent/member.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace weft::worker {

Member::Member(MemberOrder order, const AgentPolicy& policy, absl::Time now,
               std::vector<AgentAction>& actions)
    : order_(std::move(order)), policy_(policy), start_deadline_(now + policy.start_timeout) {
  for (const int rank : order_.ranks) ranks_[rank];
  launcher_alive_ = order_.has_relays() && order_.leads();
  actions.emplace_back(SpawnMember{order_});
  actions.emplace_back(SendHeartbeat{});
}

void Member::OnRankAdvanced(const RankAdvanced& event, absl::Time now,
                            std::vector<AgentAction>& actions) {
  const auto found = ranks_.find(event.rank);
  if (found == ranks_.end() || !found->second.alive) return;
  found->second.phase = event.phase;
  if (!found->second.spoke_last) {
    found->second.silence_deadline = now + policy_.silence_timeout;
  }
  step_ = std::max(step_, event.step);
  UpdatePhase(actions);
}

void Member::OnRankFinished(const RankFinished& event, absl::Time now,
                            std::vector<AgentAction>& actions) {
  const auto found = ranks_.find(event.rank);
  if (found == ranks_.end() || found->second.spoke_last) return;
  Rank& rank = found->second;
  rank.spoke_last = true;
  rank.silence_deadline = absl::InfiniteFuture();
  rank.exit_deadline = now + policy_.exit_timeout;
  step_ = std::max(step_, event.step);
  if (!event.weights_hash.empty()) weights_hash_ = event.weights_hash;
  // A fault of one rank names it; data that cannot work and lost peers are every rank's.
  AddFinding(event.outcome,
             event.outcome == MemberOutcome::kFailed
                 ? absl::StrCat("rank ", event.rank, ": ", event.message)
                 : event.message,
             event.rank);
  switch (event.outcome) {
    case MemberOutcome::kSucceeded:
    case MemberOutcome::kSaved:
      finish_deadline_ = std::min(finish_deadline_, now + policy_.finish_timeout);
      return;
    case MemberOutcome::kPeerLost:
      peer_loss_deadline_ = std::min(peer_loss_deadline_, now + policy_.peer_loss_grace);
      return;
    case MemberOutcome::kKilled:
    case MemberOutcome::kFailed:
    case MemberOutcome::kUserError:
      return Kill(actions);
  }
}

void Member::OnRankEnded(const RankEnded& event, std::vector<AgentAction>& actions) {
  const auto found = ranks_.find(event.rank);
  if (found == ranks_.end() || !found->second.alive) return;
  Rank& rank = found->second;
  rank.alive = false;
  rank.silence_deadline = absl::InfiniteFuture();
  rank.exit_deadline = absl::InfiniteFuture();
  if (!rank.spoke_last && !(killing_ && event.was_sigkill)) {
    AddFinding(MemberOutcome::kFailed, absl::StrCat("rank ", event.rank, " ", event.how),
               event.rank);
    Kill(actions);
  }
}

void Member::OnRelayEnded(const RelayEnded& event, absl::Time now,
                          std::vector<AgentAction>& actions) {
  bool& alive = event.part == RelayPart::kLauncher ? launcher_alive_ : daemon_alive_;
  if (!std::exchange(alive, false)) return;
  if (killing_ || reported_ || AllSpokeLast()) return;
  if (Phase() == MemberPhase::kStarting) {
    // The lead knows best why relays do not start. To the others it looks the same whether their
    // own relay or the lead failed; what the lead says counts.
    const bool own_fault = event.part == RelayPart::kLauncher;
    AddFinding(
        own_fault ? MemberOutcome::kFailed : MemberOutcome::kPeerLost,
        absl::StrCat("the relays did not start: ",
                     own_fault ? order_.launcher() : "this worker's relay daemon", " ", event.how));
    return Kill(actions);
  }
  const std::string why = absl::StrCat(
      event.part == RelayPart::kLauncher ? order_.launcher() : "the relay daemon", " ", event.how);
  actions.emplace_back(AbortExchange{key(), why});
  if (event.clean || Phase() == MemberPhase::kSaving) return;  // the ranks may need no relay now
  AddFinding(MemberOutcome::kPeerLost, absl::StrCat("the relays were lost: ", why));
  peer_loss_deadline_ = std::min(peer_loss_deadline_, now + policy_.peer_loss_grace);
}

void Member::OnPeerUnreachable(const PeerUnreachable& event, std::vector<AgentAction>& actions) {
  if (killing_ || reported_ || AllSpokeLast()) return;
  AddFinding(MemberOutcome::kPeerLost, event.how);
  Kill(actions);
}

void Member::OnDaemonRequested(DaemonRequestId request, std::vector<AgentAction>& actions) {
  if (killing_ || reported_ || daemon_ran_ || !order_.has_relays()) {
    actions.emplace_back(RefuseDaemon{
        request, absl::FailedPreconditionError(absl::StrCat(
                     "generation ", key().generation.value(), " of ", key().job,
                     daemon_ran_ ? " has had its relay daemon here" : " does not run here"))});
    return;
  }
  daemon_ran_ = true;
  daemon_alive_ = true;
  actions.emplace_back(RunDaemon{request, key()});
}

void Member::Stop(StopMode mode, const std::string& reason, absl::Time deadline,
                  std::vector<AgentAction>& actions) {
  if (reported_) {
    if (mode == StopMode::kKill) Kill(actions);  // relays that stayed
    return;
  }
  if (stop_ == StopMode::kKill || (stop_ == mode)) {
    save_deadline_ = std::min(save_deadline_, deadline);
    return;
  }
  stop_ = mode;
  stop_reason_ = reason;
  if (mode == StopMode::kKill) return Kill(actions);
  save_deadline_ = deadline;
  if (!killing_) actions.emplace_back(AskToSave{key()});
}

void Member::OnTime(absl::Time now, std::vector<AgentAction>& actions) {
  if (reported_) {
    if (now >= linger_deadline_) Kill(actions);
    return;
  }
  if (killing_) return;
  if (now >= start_deadline_) {
    // A gang whose lead never came says nothing about this worker.
    const bool lead_missing = order_.has_relays() && !order_.leads() && !daemon_ran_;
    AddFinding(lead_missing ? MemberOutcome::kPeerLost : MemberOutcome::kFailed,
               absl::StrCat(lead_missing ? "the lead did not start the relays within "
                                         : "the ranks did not start within ",
                            absl::FormatDuration(policy_.start_timeout)));
    return Kill(actions);
  }
  if (now >= save_deadline_) {
    AddFinding(MemberOutcome::kKilled, "the ranks did not save a checkpoint in time");
    return Kill(actions);
  }
  if (now >= finish_deadline_) {
    AddFinding(MemberOutcome::kFailed,
               absl::StrCat("a rank did not end within ",
                            absl::FormatDuration(policy_.finish_timeout), " after another"));
    return Kill(actions);
  }
  if (now >= peer_loss_deadline_) return Kill(actions);
  for (const auto& [number, rank] : ranks_) {
    if (now >= rank.silence_deadline) {
      AddFinding(MemberOutcome::kFailed,
                 absl::StrCat("rank ", number, " has been silent for ",
                              absl::FormatDuration(policy_.silence_timeout)),
                 number);
      return Kill(actions);
    }
    if (now < rank.exit_deadline) continue;
    if (!AllSpokeLast()) {
      AddFinding(MemberOutcome::kFailed,
                 absl::StrCat("rank ", number, " finished, but its process did not end"), number);
    }
    return Kill(actions);
  }
}

void Member::OnSuspended(absl::Time now) {
  for (auto& [number, rank] : ranks_) {
    if (rank.silence_deadline != absl::InfiniteFuture()) {
      rank.silence_deadline = now + policy_.silence_timeout;
    }
  }
}

std::optional<ExitReport> Member::TakeReport(absl::Time now, std::vector<AgentAction>& actions) {
  if (reported_ || AnyRank()) return std::nullopt;
  const ExitReport report = MakeReport();
  const bool good =
      report.outcome == MemberOutcome::kSucceeded || report.outcome == MemberOutcome::kSaved;
  if (AnyRelay() && !good) {
    Kill(actions);
    return std::nullopt;
  }
  reported_ = true;
  linger_deadline_ = now + policy_.relay_linger;
  return report;
}

MemberSnapshot Member::Snapshot() const { return MemberSnapshot{key(), Phase(), step_}; }

absl::Time Member::NextDeadline() const {
  if (reported_) return killing_ ? absl::InfiniteFuture() : linger_deadline_;
  if (killing_) return absl::InfiniteFuture();
  absl::Time next =
      std::min({start_deadline_, save_deadline_, finish_deadline_, peer_loss_deadline_});
  for (const auto& [number, rank] : ranks_) {
    next = std::min({next, rank.silence_deadline, rank.exit_deadline});
  }
  return next;
}

void Member::Kill(std::vector<AgentAction>& actions) {
  if (std::exchange(killing_, true)) return;
  if (AnyProcess()) actions.emplace_back(KillMember{key()});
  UpdatePhase(actions);
}

void Member::AddFinding(MemberOutcome outcome, std::string message, std::optional<int> rank) {
  if (!worst_.has_value() || outcome > worst_->outcome) {
    worst_ = Finding{outcome, std::move(message), rank};
  }
}

bool Member::AnyRank() const {
  return std::any_of(ranks_.begin(), ranks_.end(),
                     [](const auto& entry) { return entry.second.alive; });
}

bool Member::AllSpokeLast() const {
  return std::all_of(ranks_.begin(), ranks_.end(),
                     [](const auto& entry) { return entry.second.spoke_last; });
}

MemberPhase Member::Phase() const {
  if (killing_) return MemberPhase::kStopping;
  MemberPhase least = MemberPhase::kStopping;
  for (const auto& [number, rank] : ranks_) least = std::min(least, rank.phase);
  return least;
}

void Member::UpdatePhase(std::vector<AgentAction>& actions) {
  const MemberPhase phase = Phase();
  if (phase == told_phase_) return;
  told_phase_ = phase;
  if (phase != MemberPhase::kStarting) start_deadline_ = absl::InfiniteFuture();
  if (!reported_) actions.emplace_back(SendHeartbeat{});
}

ExitReport Member::MakeReport() const {
  ExitReport report{key(), MemberOutcome::kKilled, stop_reason_, step_, weights_hash_};
  if (!worst_.has_value()) return report;  // all that is known: we ended it
  report.outcome = worst_->outcome;
  report.message = worst_->message;
  report.rank = worst_->rank;
  const bool good =
      report.outcome == MemberOutcome::kSucceeded || report.outcome == MemberOutcome::kSaved;
  // Killed before all had said that they were done; or peers were killed by the same order.
  if ((good && !AllSpokeLast()) ||
      (report.outcome == MemberOutcome::kPeerLost && stop_ == StopMode::kKill)) {
    report.outcome = MemberOutcome::kKilled;
    report.message = stop_reason_;
    report.rank.reset();
  }
  if (report.outcome != MemberOutcome::kSucceeded) report.weights_hash.clear();
  return report;
}

}  // namespace weft::worker
