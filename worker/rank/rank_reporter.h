// RankReporter: tells the agent, and the job's log (standard output), what a run does.
#pragma once

#include <cstdint>
#include <string>

#include "worker/checkpoint/checkpoint_store.h"
#include "worker/rank/agent_link.h"
#include "worker/train/training_run.h"

namespace weft::worker {

// How a run's error is answered for: by the job's author, by another member, or by nobody yet.
v1::MemberExit::Outcome OutcomeOf(const absl::Status& status);

class RankReporter final : public RunObserver {
 public:
  struct Place {
    int rank = 0;
    int64_t generation = 0;
    int64_t total_steps = 0;
  };
  // All references outlive the reporter.
  RankReporter(AgentLink& link, CheckpointStore& checkpoints, const Clock& clock,
               const Place& place)
      : link_(link), checkpoints_(checkpoints), clock_(clock), place_(place) {}

  void OnPhase(RunPhase phase, int64_t step) override;
  void OnStep(const StepSummary& summary) override;
  void OnCheckpoint(const SavedCheckpoint& checkpoint) override;
  void OnNotice(const std::string& notice) override;

  // The last message.
  void OnEnd(const absl::StatusOr<RunOutcome>& outcome);

 private:
  [[nodiscard]] bool is_lead() const { return place_.rank == 0; }

  AgentLink& link_;
  CheckpointStore& checkpoints_;
  const Clock& clock_;
  const Place place_;
  v1::MemberStatus::Phase phase_ = v1::MemberStatus::PHASE_STARTING;
  int64_t step_ = 0;  // the last one that was applied
};

}  // namespace weft::worker
