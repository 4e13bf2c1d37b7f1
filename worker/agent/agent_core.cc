#include "worker/agent/agent_core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace weft::worker {
namespace {

// Fences of more jobs than this are not kept; the ones that were not touched for longest go first.
// A command so late that its fence is gone would have to be older than thousands of jobs.
constexpr size_t kMaxFences = 4096;

// While members run the core wants to be called at least this often; a gap of several times that
// shows that the whole host was stopped.
constexpr absl::Duration kTick = absl::Seconds(5);
constexpr absl::Duration kSuspended = absl::Seconds(20);

}  // namespace

std::vector<AgentAction> AgentCore::Step(const AgentEvent& event, absl::Time now) {
  Actions actions;
  if (now - last_step_ > kSuspended) {
    for (auto& [job, member] : members_) member->OnSuspended(now);
  }
  last_step_ = now;
  std::visit([&](const auto& concrete) { On(concrete, now, actions); }, event);
  Settle(now, actions);
  return actions;
}

absl::Time AgentCore::NextWakeup() const {
  absl::Time next = members_.empty() ? absl::InfiniteFuture() : last_step_ + kTick;
  for (const auto& [job, member] : members_) next = std::min(next, member->NextDeadline());
  for (const auto& [request, waiting] : waiting_daemons_) next = std::min(next, waiting.deadline);
  if (link_up_ && !reports_.empty()) next = std::min(next, next_resend_);
  if (shutdown_.has_value() && !quit_) {
    next = std::min(
        next, members_.empty() ? nothing_runs_since_ + policy_.farewell : shutdown_->deadline);
  }
  return next;
}

std::vector<MemberSnapshot> AgentCore::Running() const {
  std::vector<MemberSnapshot> running;
  for (const auto& [job, member] : members_) {
    if (!member->reported()) running.push_back(member->Snapshot());
  }
  for (const auto& [job, order] : successors_) {
    running.push_back(MemberSnapshot{order.key, MemberPhase::kStarting, 0});
  }
  return running;
}

std::vector<Report> AgentCore::UnacknowledgedExits() const {
  std::vector<Report> exits;
  for (const auto& [id, report] : reports_) {
    if (std::holds_alternative<ExitReport>(report.content)) exits.push_back(report);
  }
  return exits;
}

// --- the coordinator ----------------------------------------------------------------------------

void AgentCore::On(const LinkRestored& /*event*/, absl::Time now, Actions& actions) {
  link_up_ = true;
  if (leaving()) actions.emplace_back(SendHeartbeat{});  // before the exits, as below
  for (const auto& [id, report] : reports_) Send(report, actions);
  next_resend_ = now + policy_.resend_interval;
}

void AgentCore::On(const LinkLost& /*event*/, absl::Time /*now*/, Actions& /*actions*/) {
  link_up_ = false;
}

void AgentCore::On(const StartReceived& event, absl::Time now, Actions& actions) {
  if (leaving()) return;  // nothing new begins; our heartbeats say so
  const MemberKey& key = event.order.key;
  const auto fence = fences_.find(key.job);
  if (fence != fences_.end() && key.generation <= fence->second.newest) return;
  RaiseFence(key, now);
  if (const auto waiting = successors_.find(key.job); waiting != successors_.end()) {
    FileUnstarted(waiting->second.key, "a newer generation was ordered", now, actions);
    successors_.erase(waiting);
  }
  const auto member = members_.find(key.job);
  if (member == members_.end()) return Launch(event.order, now, actions);
  successors_.emplace(key.job, event.order);
  member->second->Stop(StopMode::kKill, "a newer generation was ordered", now, actions);
}

void AgentCore::On(const StopReceived& event, absl::Time now, Actions& actions) {
  const MemberKey& key = event.key;
  if (Member* member = Find(key); member != nullptr) {
    return member->Stop(event.mode, event.reason, now + policy_.save_timeout, actions);
  }
  if (const auto waiting = successors_.find(key.job);
      waiting != successors_.end() && waiting->second.key == key) {
    successors_.erase(waiting);
    return FileUnstarted(key, event.reason, now, actions);
  }
  // Of the past: it ended here, or a newer one was ordered, so the coordinator knows.
  const auto fence = fences_.find(key.job);
  if (fence != fences_.end() && key.generation <= fence->second.newest) return;
  // Its order was lost, or is late: then it must do nothing any more.
  RaiseFence(key, now);
  FileUnstarted(key, "it was not running here", now, actions);
}

void AgentCore::On(const AcknowledgementReceived& event, absl::Time /*now*/, Actions& /*actions*/) {
  for (const ReportId id : event.ids) reports_.erase(id);
}

// --- processes ----------------------------------------------------------------------------------

void AgentCore::On(const RankAdvanced& event, absl::Time now, Actions& actions) {
  if (Member* member = Find(event.key); member != nullptr) {
    member->OnRankAdvanced(event, now, actions);
  }
}

void AgentCore::On(const RankFinished& event, absl::Time now, Actions& actions) {
  if (Member* member = Find(event.key); member != nullptr) {
    member->OnRankFinished(event, now, actions);
  }
}

void AgentCore::On(const RankEnded& event, absl::Time /*now*/, Actions& actions) {
  if (Member* member = Find(event.key); member != nullptr) member->OnRankEnded(event, actions);
}

void AgentCore::On(const CheckpointWritten& event, absl::Time now, Actions& actions) {
  File(CheckpointReport{event.key, event.payload}, now, actions);
}

void AgentCore::On(const RelayEnded& event, absl::Time now, Actions& actions) {
  if (Member* member = Find(event.key); member != nullptr) {
    member->OnRelayEnded(event, now, actions);
  }
}

// --- other agents -------------------------------------------------------------------------------

void AgentCore::On(const PeerUnreachable& event, absl::Time /*now*/, Actions& actions) {
  if (Member* member = Find(event.key); member != nullptr) {
    member->OnPeerUnreachable(event, actions);
  }
}

void AgentCore::On(const DaemonRequested& event, absl::Time now, Actions& actions) {
  if (Member* member = Find(event.key); member != nullptr) {
    return member->OnDaemonRequested(event.request, actions);
  }
  const auto fence = fences_.find(event.key.job);
  const auto successor = successors_.find(event.key.job);
  const bool will_start = successor != successors_.end() && successor->second.key == event.key;
  if (fence != fences_.end() && event.key.generation <= fence->second.newest && !will_start) {
    actions.emplace_back(RefuseDaemon{
        event.request, absl::AbortedError(absl::StrCat(
                           "generation ", event.key.generation.value(), " of ", event.key.job,
                           " is over here; the newest is ", fence->second.newest.value()))});
    return;
  }
  // The lead was faster than the coordinator's order to us.
  waiting_daemons_[event.request] = WaitingDaemon{event.key, now + policy_.daemon_wait};
}

void AgentCore::On(const DaemonRequestCancelled& event, absl::Time /*now*/, Actions& /*actions*/) {
  waiting_daemons_.erase(event.request);
}

void AgentCore::AnswerWaitingDaemons(const MemberKey& key, Actions& actions) {
  for (auto it = waiting_daemons_.begin(); it != waiting_daemons_.end();) {
    if (it->second.key != key) {
      ++it;
      continue;
    }
    members_.at(key.job)->OnDaemonRequested(it->first, actions);
    it = waiting_daemons_.erase(it);
  }
}

void AgentCore::RefuseLateDaemons(absl::Time now, Actions& actions) {
  for (auto it = waiting_daemons_.begin(); it != waiting_daemons_.end();) {
    const auto fence = fences_.find(it->second.key.job);
    const bool fenced = fence != fences_.end() && it->second.key.generation < fence->second.newest;
    if (!fenced && now < it->second.deadline) {
      ++it;
      continue;
    }
    const std::string which =
        absl::StrCat("generation ", it->second.key.generation.value(), " of ", it->second.key.job);
    actions.emplace_back(
        RefuseDaemon{it->first, fenced ? absl::AbortedError(absl::StrCat(which, " is over here"))
                                       : absl::FailedPreconditionError(absl::StrCat(
                                             which, " was not ordered here within ",
                                             absl::FormatDuration(policy_.daemon_wait)))});
    it = waiting_daemons_.erase(it);
  }
}

// --- the end ------------------------------------------------------------------------------------

void AgentCore::On(const ShutdownRequested& event, absl::Time now, Actions& actions) {
  shutdown_ = event;
  // The coordinator must not take what ends now for a loss, nor give us the same job again.
  actions.emplace_back(SendHeartbeat{});
  for (auto& [job, order] : successors_) {
    FileUnstarted(order.key, "the worker is stopping", now, actions);
  }
  successors_.clear();
  for (auto& [job, member] : members_) {
    member->Stop(event.mode, "the worker is stopping", event.deadline, actions);
  }
}

void AgentCore::FinishShutdown(absl::Time now, Actions& actions) {
  if (!shutdown_.has_value() || quit_) return;
  if (!members_.empty()) {
    if (now < shutdown_->deadline) return;
    for (auto& [job, member] : members_) {
      member->Stop(StopMode::kKill, "the worker is stopping", now, actions);
    }
    shutdown_->deadline = absl::InfiniteFuture();  // done
    return;
  }
  nothing_runs_since_ = std::min(nothing_runs_since_, now);
  if (reports_.empty() || now >= nothing_runs_since_ + policy_.farewell) {
    quit_ = true;
    actions.emplace_back(Quit{});
  }
}

// --- time and order -----------------------------------------------------------------------------

void AgentCore::On(const TimePassed& /*event*/, absl::Time now, Actions& actions) {
  for (auto& [job, member] : members_) member->OnTime(now, actions);
  if (link_up_ && now >= next_resend_) {
    for (const auto& [id, report] : reports_) Send(report, actions);
    next_resend_ = now + policy_.resend_interval;
  }
}

void AgentCore::Settle(absl::Time now, Actions& actions) {
  std::vector<std::string> jobs;
  jobs.reserve(members_.size());
  for (const auto& [job, member] : members_) jobs.push_back(job);
  for (const std::string& job : jobs) SettleMember(job, now, actions);
  RefuseLateDaemons(now, actions);
  FinishShutdown(now, actions);
}

void AgentCore::SettleMember(const std::string& job, absl::Time now, Actions& actions) {
  const auto member = members_.find(job);
  if (std::optional<ExitReport> report = member->second->TakeReport(now, actions)) {
    File(*std::move(report), now, actions);
    // Nobody of this generation is waited for when the next one is ordered already.
    if (successors_.count(job) > 0) {
      member->second->Stop(StopMode::kKill, "a newer generation was ordered", now, actions);
    }
  }
  if (!member->second->Gone()) return;
  actions.emplace_back(ReleaseMember{member->second->key()});
  members_.erase(member);
  if (const auto next = successors_.find(job); next != successors_.end()) {
    MemberOrder order = std::move(next->second);
    successors_.erase(next);
    Launch(std::move(order), now, actions);
  }
}

Member* AgentCore::Find(const MemberKey& key) {
  const auto found = members_.find(key.job);
  return found != members_.end() && found->second->key() == key ? found->second.get() : nullptr;
}

void AgentCore::Launch(MemberOrder order, absl::Time now, Actions& actions) {
  const MemberKey key = order.key;
  members_[key.job] = std::make_unique<Member>(std::move(order), policy_, now, actions);
  AnswerWaitingDaemons(key, actions);
}

void AgentCore::File(std::variant<ExitReport, CheckpointReport> content, absl::Time now,
                     Actions& actions) {
  last_report_ = last_report_.Next();
  Report report{last_report_, std::move(content)};
  if (reports_.empty()) next_resend_ = now + policy_.resend_interval;
  Send(report, actions);
  reports_.emplace(last_report_, std::move(report));
}

void AgentCore::FileUnstarted(const MemberKey& key, std::string message, absl::Time now,
                              Actions& actions) {
  File(ExitReport{key, MemberOutcome::kKilled, std::move(message), 0, ""}, now, actions);
}

void AgentCore::Send(const Report& report, Actions& actions) const {
  if (link_up_) actions.emplace_back(SendReport{report});
}

void AgentCore::RaiseFence(const MemberKey& key, absl::Time now) {
  fences_[key.job] = Fence{key.generation, now};
  if (fences_.size() <= kMaxFences) return;
  auto oldest = fences_.end();
  for (auto it = fences_.begin(); it != fences_.end(); ++it) {
    if (members_.count(it->first) > 0 || it->first == key.job) continue;
    if (oldest == fences_.end() || it->second.touched < oldest->second.touched) oldest = it;
  }
  if (oldest != fences_.end()) fences_.erase(oldest);
}

}  // namespace weft::worker
