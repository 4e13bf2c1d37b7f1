// How messages and requests travel in a SimWorld.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/simulation/sim_world.h"

namespace weft::simulation {

using coordinator::CheckpointPublished;
using coordinator::Command;
using coordinator::Event;
using coordinator::Heartbeat;
using coordinator::Job;
using coordinator::MemberExited;
using coordinator::StartMember;
using coordinator::StopMember;
using coordinator::WorkerJoined;

void SimWorld::Carry(absl::AnyInvocable<void()> arrive) {
  if (random_.Percent(loss_percent_)) return Meet("a message was lost");
  const auto delay = [this] {
    return random_.Percent(late_percent_) ? random_.Milliseconds(100, 2500)
                                          : random_.Milliseconds(1, 8);
  };
  auto shared = std::make_shared<absl::AnyInvocable<void()>>(std::move(arrive));
  if (random_.Percent(double_percent_)) {
    Meet("a message was doubled");
    schedule_.After(delay(), [shared] { (*shared)(); });
  }
  schedule_.After(delay(), [shared] { (*shared)(); });
}

void SimWorld::Say(const WorkerName& from, Event event) {
  if (schedule_.Now() < hosts_[from].cut_until) return;
  Carry([this, from, event = std::move(event)] { Deliver(from, event); });
}

void SimWorld::Deliver(const WorkerName& from, Event event) {
  if (coordinator_ == nullptr) return;
  Incarnation incarnation;
  if (const auto* joined = std::get_if<WorkerJoined>(&event)) incarnation = joined->incarnation;
  if (const auto* exited = std::get_if<MemberExited>(&event)) incarnation = exited->incarnation;
  if (std::holds_alternative<CheckpointPublished>(event)) {
    // The message does not say whose it is, for the core does not need it; the stream does.
    SimAgent* agent = hosts_[from].agent.get();
    if (agent == nullptr) return;
    incarnation = agent->incarnation();
  }
  coordinator_->loop.Post([this, from, incarnation, event = std::move(event)]() mutable {
    const Event said = event;
    if (PlantOnTheWay(from, event)) {
      return Answer(from, incarnation, said, JobId());
    }
    Mix(coordinator::EventName(event));
    coordinator_->driver->Handle(event,
                                 [this, from, incarnation, said](absl::StatusOr<JobId> reply) {
                                   if (absl::IsAborted(reply.status()))
                                     Meet("a stale report was refused");
                                   Carry([this, from, incarnation, said, reply = std::move(reply)] {
                                     Answer(from, incarnation, said, reply);
                                   });
                                 });
  });
}

void SimWorld::Answer(const WorkerName& to, const Incarnation& incarnation, const Event& event,
                      const absl::StatusOr<JobId>& reply) {
  Host& host = hosts_[to];
  if (host.agent == nullptr || host.agent->incarnation() != incarnation) return;
  if (schedule_.Now() < host.cut_until) return;
  if (std::holds_alternative<WorkerJoined>(event)) {
    // A doubled or late join tells nothing about the stream of now.
    if (coordinator_ != nullptr) host.agent->OnJoinReply(reply.status());
  } else if (const auto* exited = std::get_if<MemberExited>(&event)) {
    host.agent->OnExitReply(exited->job, exited->generation, reply.status());
  } else if (const auto* published = std::get_if<CheckpointPublished>(&event)) {
    host.agent->OnCheckpointReply(published->job, published->checkpoint, reply.status());
  }
}

void SimWorld::Send(const Command& command) {
  const WorkerName& worker = WorkerOf(command);
  Mix(absl::StrCat(CommandName(command), " ", worker));
  if (const auto* start = std::get_if<StartMember>(&command)) CheckStart(*start);
  if (PlantInCommand(command)) return;
  if (hosts_[worker].agent == nullptr || schedule_.Now() < hosts_[worker].cut_until) return;
  Carry([this, worker, command] {
    Host& host = hosts_[worker];
    if (host.agent != nullptr && schedule_.Now() >= host.cut_until) host.agent->On(command);
  });
}

void SimWorld::Request(Event event, Reply reply) {
  auto shared = std::make_shared<Reply>(std::move(reply));
  Carry([this, shared, event = std::move(event)] {
    if (coordinator_ == nullptr) return;
    coordinator_->loop.Post([this, shared, event] {
      Mix(coordinator::EventName(event));
      coordinator_->driver->Handle(event, [this, shared](absl::StatusOr<JobId> answer) {
        Carry([shared, answer = std::move(answer)] {
          if (*shared) (*shared)(answer);
        });
      });
    });
  });
}

// Again and again with the same request id, until an answer comes.
void SimWorld::Submit(size_t index) {
  if (clients_[index].job.has_value()) return;
  Request(coordinator::JobSubmitted{clients_[index].request},
          [this, index](absl::StatusOr<JobId> reply) {
            Client& client = clients_[index];
            if (!reply.ok()) {
              if (absl::IsInvalidArgument(reply.status())) Violate(reply.status().ToString());
              return;
            }
            if (client.job.has_value()) Meet("a submit was answered twice");
            if (client.job.has_value() && *client.job != *reply) {
              Violate(absl::StrCat("request ", client.request.request_id, " became two jobs"));
            }
            client.job = *reply;
          });
  schedule_.After(random_.Milliseconds(300, 3000), [this, index] { Submit(index); });
}

bool SimWorld::PlantOnTheWay(const WorkerName& from, Event& event) {
  const coordinator::ClusterState& state = coordinator_->driver->state();
  if (options_.plant == Plant::kNoFence) {
    if (auto* exited = std::get_if<MemberExited>(&event)) {
      const Job* job = state.FindJob(exited->job);
      const GangMember* member = job == nullptr ? nullptr : job->FindMember(from);
      if (member == nullptr) return false;
      exited->generation = job->generation;
      exited->incarnation = member->incarnation;
    } else if (auto* published = std::get_if<CheckpointPublished>(&event)) {
      const Job* job = state.FindJob(published->job);
      if (job != nullptr) published->checkpoint.generation = job->generation;
    }
    return false;
  }
  if (options_.plant != Plant::kKeptGang) return false;
  Host& host = hosts_[from];
  if (auto* exited = std::get_if<MemberExited>(&event)) {
    const Job* job = state.FindJob(exited->job);
    if (exited->outcome < MemberOutcome::kPeerLost || job == nullptr ||
        job->generation != exited->generation || job->stop != StopMode::kNone) {
      return false;
    }
    host.believed.push_back(
        {exited->job, exited->generation, MemberPhase::kTraining, exited->step, 1});
    return true;
  }
  if (auto* beat = std::get_if<Heartbeat>(&event)) {
    beat->running.insert(beat->running.end(), host.believed.begin(), host.believed.end());
  }
  return false;
}

bool SimWorld::PlantInCommand(const Command& command) {
  if (options_.plant != Plant::kEdgeTriggered) return false;
  const auto once = [&](const auto& it) {
    return !sent_once_.insert({command.index(), it.worker, it.job, it.generation}).second;
  };
  if (const auto* start = std::get_if<StartMember>(&command)) return once(*start);
  if (const auto* stop = std::get_if<StopMember>(&command)) return once(*stop);
  return false;
}

bool SimWorld::PeerWorks(const WorkerName& from, const GangMember& peer, JobId job,
                         Generation generation) {
  const Host& there = hosts_[peer.worker];
  if (schedule_.Now() < there.data_cut_until || schedule_.Now() < hosts_[from].data_cut_until) {
    return false;
  }
  return finished_.contains({peer.worker, job, generation}) ||
         (there.agent != nullptr && there.agent->Runs(job, generation));
}

void SimWorld::Finished(const WorkerName& worker, JobId job, Generation generation) {
  finished_.insert({worker, job, generation});
}

}  // namespace weft::simulation
