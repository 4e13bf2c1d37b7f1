// What must hold in a SimWorld, held against what really happened in it.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/simulation/sim_world.h"

namespace weft::simulation {

using coordinator::CheckpointRecorded;
using coordinator::ClusterState;
using coordinator::Fact;
using coordinator::GangReleased;
using coordinator::GangStopping;
using coordinator::Job;
using coordinator::JobGoal;
using coordinator::JobGoalSet;
using coordinator::JobState;
using coordinator::MemberEnded;
using coordinator::ReasonCode;
using coordinator::StartMember;

std::vector<std::string> NamedSituations() {
  return {"a message was lost",
          "a message was doubled",
          "a stale report was refused",
          "a submit was answered twice",
          "a commit was refused",
          "a rank crashed",
          "a worker was cut off",
          "an agent died with ranks",
          "a worker was lost",
          "the coordinator crashed with a commit in flight",
          "the coordinator was stopped for seconds",
          "the coordinator noticed that it was stopped",
          "a running gang was adopted",
          "a gang was asked to save",
          "a gang that saved too slowly or failed was stopped at once",
          "a gang formed again after a loss",
          "a gang formed with fewer workers",
          "a job paused",
          "a pausing job was resumed",
          "a starting job was cancelled",
          "a cancel was accepted",
          "a job backed off",
          "a failure named its rank",
          "a job used up its retries",
          "a job failed by a user error",
          "peers blamed each other before the cause was known"};
}

void SimWorld::Violate(std::string what) {
  if (!result_.violation.empty()) return;
  result_.violation = absl::StrCat("after ", absl::FormatDuration(schedule_.Now() - started_),
                                   " and ", result_.events, " events: ", what);
}

void SimWorld::Mix(uint64_t value) {  // FNV-1a
  for (int byte = 0; byte < 8; ++byte) {
    result_.hash = (result_.hash ^ ((value >> (8 * byte)) & 0xff)) * 0x100000001b3ULL;
  }
}

void SimWorld::Mix(absl::string_view text) {
  for (const char c : text) {
    result_.hash = (result_.hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  }
  Mix(static_cast<uint64_t>(absl::ToUnixMicros(schedule_.Now())));
}

void SimWorld::OnFacts(absl::Span<const Fact> facts, const ClusterState& state) {
  if (const absl::Status whole = CheckInvariants(state); !whole.ok()) Violate(whole.ToString());
  for (const Fact& fact : facts) {
    Mix(FactName(fact));
    Mix(static_cast<uint64_t>(JobOf(fact).value()));
    CheckFact(fact, state);
  }
}

void SimWorld::CheckFact(const Fact& fact, const ClusterState& state) {
  const Job* job = state.FindJob(JobOf(fact));
  if (std::holds_alternative<coordinator::CoordinatorStalled>(fact)) {
    Meet("the coordinator noticed that it was stopped");
  } else if (std::holds_alternative<coordinator::WorkerLost>(fact)) {
    Meet("a worker was lost");
  } else if (std::holds_alternative<coordinator::BackOffEnded>(fact)) {
    Meet("a job backed off");
  } else if (const auto* recorded = std::get_if<CheckpointRecorded>(&fact)) {
    // The location says who really wrote it.
    const std::string expected =
        absl::StrCat(job->name, "/", recorded->checkpoint.generation.value(), "/",
                     recorded->checkpoint.step.value());
    if (recorded->checkpoint.location != expected) {
      Violate(
          absl::StrCat("checkpoint ", recorded->checkpoint.location, " was taken for ", expected));
    }
  } else if (const auto* stopping = std::get_if<GangStopping>(&fact)) {
    if (stopping->mode == StopMode::kSaveFirst) Meet("a gang was asked to save");
  } else if (const auto* placed = std::get_if<coordinator::GangPlaced>(&fact)) {
    if (placed->generation > Generation(1)) Meet("a gang formed again after a loss");
    if (static_cast<int32_t>(placed->members.size()) < job->request.max_workers) {
      Meet("a gang formed with fewer workers");
    }
  } else if (const auto* goal = std::get_if<JobGoalSet>(&fact)) {
    if (goal->goal == JobGoal::kRun && goal->state == JobState::kRunning) {
      Meet("a pausing job was resumed");
    }
    if (goal->state == JobState::kCancelling && job->generation == Generation(1) &&
        job->step == StepIndex()) {
      Meet("a starting job was cancelled");
    }
  } else if (const auto* released = std::get_if<GangReleased>(&fact)) {
    const bool peer = std::any_of(job->gang.begin(), job->gang.end(), [](const GangMember& m) {
      return m.outcome == MemberOutcome::kPeerLost;
    });
    if (peer && released->last_failure.reason.code == ReasonCode::kRankFailed) {
      Meet("peers blamed each other before the cause was known");
    }
    CheckFailure(*released, *job);
    if (released->state == JobState::kPaused) Meet("a job paused");
    if (released->reason.code == ReasonCode::kRetriesExceeded) Meet("a job used up its retries");
    if (released->reason.code == ReasonCode::kUserError) Meet("a job failed by a user error");
    if (released->state != JobState::kSucceeded) return;
    for (const GangMember& member : job->gang) {
      if (!finished_.contains({member.worker, released->job, released->generation})) {
        Violate(absl::StrCat(job->name, " SUCCEEDED, but ", member.worker,
                             " did not finish generation ", released->generation.value()));
      }
    }
  } else if (const auto* ended = std::get_if<MemberEnded>(&fact)) {
    // Its agent says of every member that it runs or has ended, until that is acknowledged.
    if (ended->outcome == MemberOutcome::kHostLost &&
        absl::StrContains(ended->reason.text, "gone without a report")) {
      Violate(absl::StrCat(job->name, " was told of every end, but: ", ended->reason.text));
    }
    if (ended->outcome >= MemberOutcome::kPeerLost && job->stop == StopMode::kNow &&
        job->goal == JobGoal::kPause) {
      Meet("a gang that saved too slowly or failed was stopped at once");
    }
  } else if (const auto* reported = std::get_if<coordinator::WorkerReported>(&fact)) {
    for (const MemberReport& report : reported->running) {
      const auto before = running_before_crash_.find(report.job);
      if (before == running_before_crash_.end() || before->second != report.generation) continue;
      const Job* adopted = state.FindJob(report.job);
      if (adopted != nullptr && adopted->generation == report.generation) {
        Meet("a running gang was adopted");
      }
    }
  }
}

// What is said of a failure is so, and is kept.
void SimWorld::CheckFailure(const GangReleased& released, const Job& job) {
  const coordinator::Failure& failure = released.last_failure;
  if (failure.reason.code == ReasonCode::kNone) return;
  if (failure.generation != released.generation || failure.at > released.at ||
      failure.at < job.created) {
    Violate(absl::StrCat(job.name, " says of another generation or time what failed"));
  }
  if (failure.worker.empty() != (failure.reason.code == ReasonCode::kStartTimeout)) {
    Violate(absl::StrCat(job.name, " failed on no worker: ", failure.reason.text));
  }
  if (!(job.last_failure == failure) && job.generation == released.generation) {
    Violate(absl::StrCat(job.name, " forgot what failed"));
  }
  if (failure.rank.has_value()) Meet("a failure named its rank");
}

void SimWorld::OnCommit(const absl::Status& status, int64_t facts, absl::Duration) {
  Mix(static_cast<uint64_t>(facts));
  Mix(status.ok() ? "stored" : "refused");
}

void SimWorld::OnSteppedDown(const absl::Status& why) {
  Violate(absl::StrCat("the only coordinator stepped down: ", why.ToString()));
}

void SimWorld::CheckStart(const StartMember& start) {
  // Persist, then act: what is started must be on the disk already, or have been replaced there
  // since.
  const Job* stored = durable_.FindJob(start.job);
  if (stored == nullptr || stored->generation < start.generation) {
    Violate(absl::StrCat("generation ", start.generation.value(), " of ", start.job_name,
                         " was started before it was stored"));
  }
}

void SimWorld::CheckAccepted(const ClusterState& state) {
  for (const Client& client : clients_) {
    if (!client.job.has_value()) continue;
    const Job* job = state.FindJob(*client.job);
    if (job == nullptr || !(job->request == client.request)) {
      Violate(absl::StrCat("accepted job ", client.job->value(), " is gone after a restart"));
    } else if (client.cancel_accepted && job->goal != JobGoal::kCancel) {
      Violate(absl::StrCat("the accepted cancel of ", job->name, " is forgotten"));
    }
  }
}

void SimWorld::CheckEnd() {
  if (coordinator_ == nullptr) return Violate("the coordinator never came back");
  const ClusterState& state = coordinator_->driver->state();
  CheckAccepted(state);
  if (state.jobs.size() != clients_.size()) {
    Violate(absl::StrCat(clients_.size(), " jobs were submitted, there are ", state.jobs.size()));
  }
  for (const Client& client : clients_) {
    const Job* job = client.job.has_value() ? state.FindJob(*client.job) : nullptr;
    if (job == nullptr) return Violate("a job was never accepted");
    const std::string where = absl::StrCat(job->name, " ends as ", ToString(job->state), " (",
                                           ToString(job->reason.code), ": ", job->reason.text, ")");
    switch (job->state) {
      case JobState::kSucceeded:
        if (client.plan.user_error) Violate(where);
        break;
      case JobState::kCancelled:
        if (job->goal != JobGoal::kCancel) Violate(where);
        break;
      case JobState::kFailed:
        if (!client.plan.user_error && job->counters.failures <= job->request.max_retries) {
          Violate(where);
        }
        if (options_.only_coordinator_crashes) Violate(where);
        break;
      default:
        Violate(absl::StrCat("never ends: ", where));
    }
    if (options_.only_coordinator_crashes && job->generation != Generation(1)) {
      Violate(absl::StrCat(job->name, " was stopped although only the coordinator crashed: ",
                           job->last_failure.reason.text));
    }
  }
}

}  // namespace weft::simulation
