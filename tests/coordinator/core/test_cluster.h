// A cluster for tests of the core: events in, facts applied, commands kept; every step checks the
// invariants and that deciding on a copy gives the same as deciding ahead. Time moves when the test
// says so.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/core/decide.h"
#include "coordinator/core/explain.h"
#include "tests/testing/status_matchers.h"

namespace weft::coordinator {

inline JobRequest CpuJob(std::string name, int32_t min_workers = 1, int32_t max_workers = 0) {
  JobRequest request;
  request.name = std::move(name);
  request.device_kind = "cpu";
  request.min_workers = min_workers;
  request.max_workers = max_workers == 0 ? min_workers : max_workers;
  request.spec = SharedBytes(absl::StrCat("spec of ", request.name));
  return request;
}

inline WorkerOffer CpuWorker(int32_t slots = 1, std::string device_class = "avx2") {
  WorkerOffer offer;
  offer.device_kind = "cpu";
  offer.device_class = std::move(device_class);
  offer.slots = slots;
  offer.address = "host:1";
  return offer;
}

class TestCluster {
 public:
  TestCluster() { On(CoordinatorStarted{}); }

  // --- events ---

  Outcome On(const Event& event) {
    const ClusterState before = state;
    Outcome outcome = DecideAhead(state, event, now, policy);
    ClusterState replayed = before;
    for (const Fact& fact : outcome.facts) Apply(replayed, fact);
    EXPECT_TRUE(replayed.jobs == state.jobs && replayed.workers == state.workers &&
                replayed.queues == state.queues && replayed.lanes == state.lanes)
        << "facts of " << EventName(event) << " do not say all that changed";
    EXPECT_OK(CheckInvariants(state)) << "after " << EventName(event);
    if (!outcome.facts.empty()) history.push_back(outcome.facts);
    wakeup = outcome.next_wakeup;
    commands = outcome.commands;
    return outcome;
  }

  JobId Submit(const JobRequest& request) {
    const Outcome outcome = On(JobSubmitted{request});
    EXPECT_OK(outcome.reply);
    return outcome.reply.value_or(JobId());
  }

  void Join(const WorkerName& name, WorkerOffer offer = CpuWorker(),
            const Incarnation& incarnation = "first") {
    incarnations[name] = incarnation;
    EXPECT_OK(On(WorkerJoined{name, incarnation, std::move(offer), {}}).reply);
  }

  // One heartbeat of a worker on which exactly `running` runs, and exactly `ended` is not
  // acknowledged.
  Outcome Beat(const WorkerName& name, std::vector<MemberReport> running = {},
               std::vector<EndedMember> ended = {}) {
    return On(
        Heartbeat{name, incarnations[name], ++sequence, std::move(running), std::move(ended)});
  }

  // Heartbeats of all members of the job's gang, all in the same phase.
  void BeatGang(JobId id, MemberPhase phase = MemberPhase::kTraining, int64_t step = 1) {
    const std::vector<GangMember> gang = job(id).gang;
    const Generation generation = job(id).generation;
    for (const GangMember& member : gang) {
      if (member.outcome.has_value()) continue;
      Beat(member.worker, {{id, generation, phase, StepIndex(step), member.slots}});
    }
  }

  Outcome Exit(JobId id, const WorkerName& worker, MemberOutcome outcome,
               std::string message = "told so", std::optional<int32_t> rank = std::nullopt) {
    return On(MemberExited{worker, incarnations[worker], id, job(id).generation, outcome,
                           std::move(message), job(id).step, "", rank});
  }

  void ExitGang(JobId id, MemberOutcome outcome) {
    const std::vector<GangMember> gang = job(id).gang;
    for (const GangMember& member : gang) {
      if (!member.outcome.has_value()) Exit(id, member.worker, outcome);
    }
  }

  absl::Status Publish(JobId id, int64_t step) { return Publish(id, step, job(id).generation); }
  absl::Status Publish(JobId id, int64_t step, Generation generation) {
    Checkpoint checkpoint;
    checkpoint.step = StepIndex(step);
    checkpoint.generation = generation;
    checkpoint.location = absl::StrCat("/checkpoints/", step);
    return On(CheckpointPublished{id, checkpoint}).reply.status();
  }

  // Moves the time on, waking up whenever the core asked to be woken.
  void Pass(absl::Duration time) {
    const absl::Time end = now + time;
    while (wakeup <= end) {
      now = std::max(now, wakeup);
      On(TimerFired{now});
    }
    now = end;
  }

  // --- answers ---

  [[nodiscard]] const Job& job(JobId id) const { return state.jobs.at(id); }
  [[nodiscard]] JobState StateOf(JobId id) const { return job(id).state; }
  [[nodiscard]] std::vector<WorkerName> GangOf(JobId id) const {
    std::vector<WorkerName> workers;
    for (const GangMember& member : job(id).gang) workers.push_back(member.worker);
    return workers;
  }
  [[nodiscard]] Explanation Why(JobId id) const { return *Explain(state, id, now); }
  // The commands of the last event that are a C.
  template <class C>
  [[nodiscard]] std::vector<C> Sent() const {
    std::vector<C> found;
    for (const Command& command : commands) {
      if (const C* it = std::get_if<C>(&command)) found.push_back(*it);
    }
    return found;
  }

  ClusterState state;
  Policy policy;
  absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  absl::Time wakeup = absl::InfiniteFuture();
  std::vector<std::vector<Fact>> history;  // of each event that had any
  std::vector<Command> commands;           // of the last event
  std::map<WorkerName, Incarnation> incarnations;
  int64_t sequence = 0;
};

}  // namespace weft::coordinator
