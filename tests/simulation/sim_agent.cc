#include "tests/simulation/sim_agent.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/check.h"

namespace weft::simulation {

using coordinator::CheckpointPublished;
using coordinator::MemberExited;
using coordinator::StartMember;
using coordinator::StopMember;

std::string SimJobPlan::Encode() const {
  return absl::StrCat(steps, " ", checkpoint_every, " ", user_error ? 1 : 0);
}

SimJobPlan SimJobPlan::Decode(const std::string& bytes) {
  const std::vector<std::string> fields = absl::StrSplit(bytes, ' ');
  SimJobPlan plan;
  int wrong = 0;
  WEFT_CHECK(fields.size() == 3 && absl::SimpleAtoi(fields[0], &plan.steps) &&
             absl::SimpleAtoi(fields[1], &plan.checkpoint_every) &&
             absl::SimpleAtoi(fields[2], &wrong));
  plan.user_error = wrong == 1;
  return plan;
}

void SimAgent::On(const coordinator::Command& command) {
  if (coordinator::IncarnationOf(command) != incarnation_) return;
  if (const auto* start = std::get_if<StartMember>(&command)) return Start(*start);
  if (const auto* stop = std::get_if<StopMember>(&command)) return Stop(*stop);
  joined_ = false;  // refused: join again
}

void SimAgent::Start(const StartMember& start) {
  Generation& fence = fence_[start.job];
  if (start.generation <= fence) return;
  fence = start.generation;
  // A lower generation that still runs here makes way.
  for (auto it = members_.begin(); it != members_.end();) {
    const Key key = (it++)->first;
    if (key.first == start.job) End(key, MemberOutcome::kStopped, "a newer generation starts");
  }
  Member member;
  member.start = start;
  member.plan = SimJobPlan::Decode(start.spec.str());
  if (start.restore.has_value()) member.step = start.restore->step;
  member.saved = member.step;
  member.phase_until = now_ + random_.Milliseconds(100, 900);
  members_[{start.job, start.generation}] = std::move(member);
  changed_ = true;
}

void SimAgent::Stop(const StopMember& stop) {
  const auto it = members_.find({stop.job, stop.generation});
  if (it != members_.end()) {
    if (stop.mode <= it->second.stop) return;
    it->second.stop = stop.mode;
    it->second.phase =
        stop.mode == StopMode::kSaveFirst ? MemberPhase::kSaving : MemberPhase::kStopping;
    it->second.phase_until =
        now_ + (stop.mode == StopMode::kSaveFirst ? random_.Milliseconds(100, 2000)
                                                  : random_.Milliseconds(0, 400));
    changed_ = true;
    return;
  }
  Generation& fence = fence_[stop.job];
  if (fence >= stop.generation) return;  // it ran and ended: its exit says so
  fence = stop.generation;
  exits_.push_back(MemberExited{name_,
                                incarnation_,
                                stop.job,
                                stop.generation,
                                MemberOutcome::kStopped,
                                "had not been started",
                                {},
                                ""});
  next_repeat_ = now_;
}

void SimAgent::End(const Key& key, MemberOutcome outcome, std::string message) {
  const Member& member = members_.at(key);
  if (outcome == MemberOutcome::kSucceeded) {
    finished_.insert(key);
    around_.Finished(name_, key.first, key.second);
  }
  exits_.push_back(MemberExited{name_, incarnation_, key.first, key.second, outcome,
                                std::move(message), member.step,
                                outcome == MemberOutcome::kSucceeded ? "hash" : ""});
  if (outcome == MemberOutcome::kRankFailed) exits_.back().rank = OwnPart(member).first_rank;
  members_.erase(key);
  next_repeat_ = now_;
}

void SimAgent::Publish(Member& member) {
  if (member.start.member_index != 0 || member.step <= member.saved) return;
  member.saved = member.step;
  Checkpoint checkpoint;
  checkpoint.step = member.step;
  checkpoint.generation = member.start.generation;
  checkpoint.location = absl::StrCat(member.start.job_name, "/", member.start.generation.value(),
                                     "/", member.step.value());
  checkpoints_.push_back(CheckpointPublished{member.start.job, checkpoint});
  next_repeat_ = now_;
}

bool SimAgent::WholeGangWorks(const Member& member) {
  return std::all_of(
      member.start.gang.begin(), member.start.gang.end(), [&](const GangMember& peer) {
        return peer.worker == name_ ||
               around_.PeerWorks(name_, peer, member.start.job, member.start.generation);
      });
}

void SimAgent::Advance(Member& member, absl::Time now) {
  const Key key{member.start.job, member.start.generation};
  switch (member.phase) {
    case MemberPhase::kStarting:
    case MemberPhase::kRestoring:
      if (now < member.phase_until) return;
      if (member.plan.user_error) return End(key, MemberOutcome::kUserError, "the data is bad");
      // The relays join only when all are there; whoever waits too long gives up.
      if (!WholeGangWorks(member)) {
        if (now > member.phase_until + absl::Seconds(20)) {
          End(key, MemberOutcome::kPeerLost, "a peer did not join");
        }
        return;
      }
      member.phase = MemberPhase::kTraining;
      changed_ = true;
      return;
    case MemberPhase::kTraining:
      if (!WholeGangWorks(member)) {
        member.alone_since = std::min(member.alone_since, now);
        if (now > member.alone_since + absl::Seconds(1)) {
          End(key, MemberOutcome::kPeerLost, "an exchange failed");
        }
        return;
      }
      member.alone_since = absl::InfiniteFuture();
      if (member.step.value() < member.plan.steps) member.step = member.step.Next();
      if (member.step.value() % member.plan.checkpoint_every == 0) Publish(member);
      if (member.step.value() >= member.plan.steps) {
        Publish(member);
        End(key, MemberOutcome::kSucceeded, "all steps are done");
      }
      return;
    case MemberPhase::kSaving:
      if (now < member.phase_until) return;
      Publish(member);
      return End(key, MemberOutcome::kStopped, "saved");
    case MemberPhase::kStopping:
      if (now >= member.phase_until) End(key, MemberOutcome::kStopped, "stopped");
      return;
  }
}

void SimAgent::Tick(absl::Time now) {
  now_ = now;
  for (auto it = members_.begin(); it != members_.end();) {
    Member& member = (it++)->second;  // Advance may remove it
    Advance(member, now);
  }
  if (!joined_) {
    if (now < next_join_) return;
    next_join_ = now + random_.Milliseconds(500, 1500);
    around_.Say(name_, coordinator::WorkerJoined{name_, incarnation_, offer_, Report(), Ended()});
    return;
  }
  if (changed_ || now >= next_heartbeat_) Heartbeat();
  if (now < next_repeat_) return;
  next_repeat_ = now + absl::Seconds(1);
  for (const CheckpointPublished& checkpoint : checkpoints_) around_.Say(name_, checkpoint);
  for (const MemberExited& exit : exits_) around_.Say(name_, exit);
}

void SimAgent::Heartbeat() {
  changed_ = false;
  next_heartbeat_ = now_ + absl::Seconds(1);
  around_.Say(name_, coordinator::Heartbeat{name_, incarnation_, ++sequence_, Report(), Ended()});
}

const GangMember& SimAgent::OwnPart(const Member& member) {
  return member.start.gang.at(static_cast<size_t>(member.start.member_index));
}

std::vector<MemberReport> SimAgent::Report() const {
  std::vector<MemberReport> reports;
  for (const auto& [key, member] : members_) {
    reports.push_back({key.first, key.second, member.phase, member.step, OwnPart(member).slots});
  }
  return reports;
}

std::vector<coordinator::EndedMember> SimAgent::Ended() const {
  std::vector<coordinator::EndedMember> ended;
  for (const MemberExited& exit : exits_) ended.push_back({exit.job, exit.generation});
  return ended;
}

void SimAgent::OnJoinReply(const absl::Status& reply) {
  if (!reply.ok() || joined_) return;
  joined_ = true;
  next_heartbeat_ = now_;
  next_repeat_ = now_;
}

void SimAgent::OnExitReply(JobId job, Generation generation, const absl::Status& reply) {
  if (absl::IsUnavailable(reply) || absl::IsResourceExhausted(reply)) return;
  std::erase_if(exits_, [&](const MemberExited& exit) {
    return exit.job == job && exit.generation == generation;
  });
}

void SimAgent::OnCheckpointReply(JobId job, const Checkpoint& checkpoint,
                                 const absl::Status& reply) {
  if (absl::IsUnavailable(reply) || absl::IsResourceExhausted(reply)) return;
  std::erase_if(checkpoints_, [&](const CheckpointPublished& published) {
    return published.job == job && published.checkpoint == checkpoint;
  });
}

bool SimAgent::FailARank() {
  for (const auto& [key, member] : members_) {
    if (member.phase == MemberPhase::kStopping) continue;
    End(Key(key), MemberOutcome::kRankFailed, "a rank crashed");
    return true;
  }
  return false;
}

bool SimAgent::Runs(JobId job, Generation generation) const {
  return members_.contains({job, generation});
}

}  // namespace weft::simulation
