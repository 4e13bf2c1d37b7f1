#include "worker/agent/agent_messages.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace weft::worker {
namespace {

constexpr size_t kMaxJobIdBytes = 100;

v1::MemberStatus::Phase ToProto(MemberPhase phase) {
  switch (phase) {
    case MemberPhase::kStarting:
      return v1::MemberStatus::PHASE_STARTING;
    case MemberPhase::kRestoring:
      return v1::MemberStatus::PHASE_RESTORING;
    case MemberPhase::kTraining:
      return v1::MemberStatus::PHASE_TRAINING;
    case MemberPhase::kSaving:
      return v1::MemberStatus::PHASE_SAVING;
    case MemberPhase::kStopping:
      return v1::MemberStatus::PHASE_STOPPING;
  }
  return v1::MemberStatus::PHASE_UNSPECIFIED;
}

v1::MemberExit::Outcome ToProto(MemberOutcome outcome) {
  switch (outcome) {
    case MemberOutcome::kSucceeded:
      return v1::MemberExit::OUTCOME_SUCCEEDED;
    case MemberOutcome::kSaved:
      return v1::MemberExit::OUTCOME_SAVED;
    case MemberOutcome::kKilled:
      return v1::MemberExit::OUTCOME_KILLED;
    case MemberOutcome::kPeerLost:
      return v1::MemberExit::OUTCOME_PEER_LOST;
    case MemberOutcome::kFailed:
      return v1::MemberExit::OUTCOME_FAILED;
    case MemberOutcome::kUserError:
      return v1::MemberExit::OUTCOME_USER_ERROR;
  }
  return v1::MemberExit::OUTCOME_FAILED;
}

}  // namespace

absl::StatusOr<std::string> JobIdOf(absl::string_view job) {
  absl::string_view id = job;
  const bool plain = absl::ConsumePrefix(&id, "jobs/") && !id.empty() &&
                     id.size() <= kMaxJobIdBytes && absl::ascii_isalnum(id.front()) &&
                     std::all_of(id.begin(), id.end(), [](char c) {
                       return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
                     });
  if (plain) return std::string(id);
  return absl::InvalidArgumentError(
      absl::StrCat("\"", absl::CHexEscape(job), "\" is no name of a job: jobs/{id}"));
}

absl::StatusOr<MemberOrder> ToOrder(const v1::StartMember& message, absl::string_view worker) {
  if (auto id = JobIdOf(message.job()); !id.ok()) return id.status();
  MemberOrder order;
  order.key = MemberKey{message.job(), Generation(message.generation())};
  order.members = message.members_size();
  order.member_index = -1;
  for (int i = 0; i < message.members_size(); ++i) {
    if (message.members(i).worker() != worker) continue;
    order.member_index = i;
    for (const v1::GangRank& rank : message.members(i).ranks()) order.ranks.push_back(rank.rank());
  }
  std::sort(order.ranks.begin(), order.ranks.end());
  const bool distinct =
      std::adjacent_find(order.ranks.begin(), order.ranks.end()) == order.ranks.end();
  if (order.member_index < 0 || order.ranks.empty() || !distinct) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation ", message.generation(), " of ", message.job(),
                     " names no rank, or a rank twice, for worker ", worker));
  }
  order.payload = message.SerializeAsString();
  return order;
}

absl::StatusOr<StopReceived> ToEvent(const v1::StopMember& message) {
  StopReceived event{MemberKey{message.job(), Generation(message.generation())}, StopMode::kKill,
                     message.reason()};
  switch (message.mode()) {
    case v1::StopMember::MODE_KILL:
      return event;
    case v1::StopMember::MODE_SAVE:
      event.mode = StopMode::kSave;
      return event;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("an order to stop ", message.job(), " without a known mode"));
  }
}

v1::MemberStatus ToMessage(const MemberSnapshot& snapshot) {
  v1::MemberStatus message;
  message.set_job(snapshot.key.job);
  message.set_generation(snapshot.key.generation.value());
  message.set_phase(ToProto(snapshot.phase));
  message.set_step(snapshot.step);
  return message;
}

v1::MemberExit ToMessage(ReportId id, const ExitReport& report) {
  v1::MemberExit message;
  message.set_id(id.value());
  message.set_job(report.key.job);
  message.set_generation(report.key.generation.value());
  message.set_outcome(ToProto(report.outcome));
  message.set_message(report.message);
  message.set_step(report.step);
  message.set_weights_hash(report.weights_hash);
  if (report.rank.has_value()) message.set_rank(*report.rank);
  return message;
}

v1::WorkerMessage ToMessage(const Report& report) {
  v1::WorkerMessage message;
  if (const auto* exit = std::get_if<ExitReport>(&report.content); exit != nullptr) {
    *message.mutable_exit() = ToMessage(report.id, *exit);
    return message;
  }
  const CheckpointReport& checkpoint = std::get<CheckpointReport>(report.content);
  v1::CheckpointPublished& published = *message.mutable_checkpoint();
  published.set_id(report.id.value());
  published.set_job(checkpoint.key.job);
  // What was filed was serialized by this process.
  published.mutable_checkpoint()->ParseFromString(checkpoint.payload);
  return message;
}

MemberPhase ToPhase(v1::MemberStatus::Phase phase) {
  switch (phase) {
    case v1::MemberStatus::PHASE_RESTORING:
      return MemberPhase::kRestoring;
    case v1::MemberStatus::PHASE_TRAINING:
      return MemberPhase::kTraining;
    case v1::MemberStatus::PHASE_SAVING:
      return MemberPhase::kSaving;
    case v1::MemberStatus::PHASE_STOPPING:
      return MemberPhase::kStopping;
    default:
      return MemberPhase::kStarting;
  }
}

MemberOutcome ToOutcome(v1::MemberExit::Outcome outcome) {
  switch (outcome) {
    case v1::MemberExit::OUTCOME_SUCCEEDED:
      return MemberOutcome::kSucceeded;
    case v1::MemberExit::OUTCOME_SAVED:
      return MemberOutcome::kSaved;
    case v1::MemberExit::OUTCOME_KILLED:
      return MemberOutcome::kKilled;
    case v1::MemberExit::OUTCOME_PEER_LOST:
      return MemberOutcome::kPeerLost;
    case v1::MemberExit::OUTCOME_USER_ERROR:
      return MemberOutcome::kUserError;
    default:
      return MemberOutcome::kFailed;
  }
}

const char* NameOf(MemberOutcome outcome) {
  switch (outcome) {
    case MemberOutcome::kSucceeded:
      return "succeeded";
    case MemberOutcome::kSaved:
      return "saved";
    case MemberOutcome::kKilled:
      return "killed";
    case MemberOutcome::kPeerLost:
      return "peer_lost";
    case MemberOutcome::kFailed:
      return "failed";
    case MemberOutcome::kUserError:
      return "user_error";
  }
  return "unknown";
}

}  // namespace weft::worker
