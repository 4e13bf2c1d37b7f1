#include "coordinator/core/decide.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/core/decision.h"

namespace weft::coordinator {

void Decision::On(const Event& event) {
  std::visit([this](const auto& it) { Handle(it); }, event);
}

Outcome Decision::Finish() {
  if (supply_changed_) PlaceQueued();
  // Every deadline that stands needs a TimerFired, also one that has just passed.
  absl::Time wakeup = absl::InfiniteFuture();
  if (!state_.job_deadlines.empty()) wakeup = state_.job_deadlines.begin()->first;
  if (!state_.worker_deadlines.empty()) {
    wakeup = std::min(wakeup, state_.worker_deadlines.begin()->first);
  }
  if (state_.gather_until != absl::InfinitePast()) {
    wakeup = std::min(wakeup, state_.gather_until);
  }
  // While silence may soon condemn a worker: a coordinator that was stopped has not read what it
  // said, and how late the wake-up comes must say for how long.
  if (!state_.worker_deadlines.empty() &&
      state_.worker_deadlines.begin()->first <= now_ + policy_.heartbeat_timeout) {
    wakeup = std::min(wakeup, now_ + policy_.heartbeat_interval);
  }
  outcome_.next_wakeup = wakeup;
  return std::move(outcome_);
}

void Decision::Record(Fact fact) {
  Apply(state_, fact);
  // What cannot free a worker or add a job leaves the queues as they are.
  supply_changed_ |= !std::holds_alternative<WorkerReported>(fact) &&
                     !std::holds_alternative<CheckpointRecorded>(fact) &&
                     !std::holds_alternative<GangRunning>(fact) &&
                     !std::holds_alternative<GangPlaced>(fact);
  outcome_.facts.push_back(std::move(fact));
}

const Job* Decision::RequireJob(JobId id) {
  const Job* job = state_.FindJob(id);
  if (job == nullptr) Refuse(absl::NotFoundError(absl::StrCat("there is no job ", id.value())));
  return job;
}

const Worker* Decision::RequireWorker(const WorkerName& name) {
  const Worker* worker = state_.FindWorker(name);
  if (worker == nullptr) {
    Refuse(absl::NotFoundError(absl::StrCat("there is no worker \"", name, "\"")));
  }
  return worker;
}

Outcome DecideAhead(ClusterState& state, const Event& event, absl::Time now, const Policy& policy) {
  Decision decision(state, now, policy);
  decision.On(event);
  return decision.Finish();
}

Outcome Decide(const ClusterState& state, const Event& event, absl::Time now,
               const Policy& policy) {
  ClusterState copy = state;
  return DecideAhead(copy, event, now, policy);
}

}  // namespace weft::coordinator
