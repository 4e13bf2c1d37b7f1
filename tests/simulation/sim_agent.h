// An agent and its ranks, as the contract in coordinator/core/commands.h demands them. The world
// gives it messages and time, and carries away what it says; the product's own agent can stand in
// its place.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "coordinator/core/commands.h"
#include "coordinator/core/events.h"
#include "tests/simulation/sim_random.h"

namespace weft::simulation {

using coordinator::Checkpoint;
using coordinator::GangMember;
using coordinator::Generation;
using coordinator::Incarnation;
using coordinator::JobId;
using coordinator::MemberOutcome;
using coordinator::MemberPhase;
using coordinator::MemberReport;
using coordinator::StepIndex;
using coordinator::StopMode;
using coordinator::WorkerName;
using coordinator::WorkerOffer;

// What a simulated job does; its spec's bytes.
struct SimJobPlan {
  int64_t steps = 20;
  int64_t checkpoint_every = 5;
  bool user_error = false;  // every attempt ends with a user error

  [[nodiscard]] std::string Encode() const;
  static SimJobPlan Decode(const std::string& bytes);
};

// What an agent can see and do beyond itself.
class SimSurroundings {
 public:
  virtual ~SimSurroundings() = default;
  // Carried to the coordinator, perhaps.
  virtual void Say(const WorkerName& from, coordinator::Event event) = 0;
  // True while the peer runs its member of this generation (or has finished it well): what the
  // exchange of gradients would notice.
  virtual bool PeerWorks(const WorkerName& from, const GangMember& peer, JobId job,
                         Generation generation) = 0;
  // All steps are done by this member: the truth that SUCCEEDED is held against.
  virtual void Finished(const WorkerName& worker, JobId job, Generation generation) = 0;
};

class SimAgent {
 public:
  SimAgent(WorkerName name, Incarnation incarnation, WorkerOffer offer, SimSurroundings& around,
           Random& random)
      : name_(std::move(name)),
        incarnation_(std::move(incarnation)),
        offer_(std::move(offer)),
        around_(around),
        random_(random) {}

  // --- messages ---
  void On(const coordinator::Command& command);
  void OnJoinReply(const absl::Status& reply);
  void OnExitReply(JobId job, Generation generation, const absl::Status& reply);
  void OnCheckpointReply(JobId job, const Checkpoint& checkpoint, const absl::Status& reply);
  void OnStreamClosed() { joined_ = false; }

  // --- time: every kTick ---
  static constexpr absl::Duration kTick = absl::Milliseconds(250);
  void Tick(absl::Time now);

  // --- faults ---
  // A rank of some member crashes. False when nothing runs.
  bool FailARank();

  [[nodiscard]] bool Runs(JobId job, Generation generation) const;
  [[nodiscard]] bool HasFinished(JobId job, Generation generation) const {
    return finished_.contains({job, generation});
  }
  [[nodiscard]] bool joined() const { return joined_; }
  [[nodiscard]] const Incarnation& incarnation() const { return incarnation_; }
  [[nodiscard]] int members_running() const { return static_cast<int>(members_.size()); }

 private:
  struct Member {
    coordinator::StartMember start;
    SimJobPlan plan;
    MemberPhase phase = MemberPhase::kStarting;
    StepIndex step;
    StepIndex saved;  // last step published by this generation
    absl::Time phase_until = absl::InfinitePast();
    absl::Time alone_since = absl::InfiniteFuture();
    StopMode stop = StopMode::kNone;
  };
  using Key = std::pair<JobId, Generation>;

  void Start(const coordinator::StartMember& start);
  void Stop(const coordinator::StopMember& stop);
  void Advance(Member& member, absl::Time now);
  // Removes the member and keeps its exit until it is acknowledged.
  void End(const Key& key, MemberOutcome outcome, std::string message);
  void Publish(Member& member);
  [[nodiscard]] bool WholeGangWorks(const Member& member);
  // What the gang has on this host.
  [[nodiscard]] static const GangMember& OwnPart(const Member& member);
  [[nodiscard]] std::vector<MemberReport> Report() const;
  [[nodiscard]] std::vector<coordinator::EndedMember> Ended() const;
  void Heartbeat();

  const WorkerName name_;
  const Incarnation incarnation_;
  const WorkerOffer offer_;
  SimSurroundings& around_;
  Random& random_;

  bool joined_ = false;
  absl::Time next_join_ = absl::InfinitePast();
  absl::Time next_heartbeat_ = absl::InfinitePast();
  absl::Time next_repeat_ = absl::InfinitePast();
  absl::Time now_ = absl::InfinitePast();
  int64_t sequence_ = 0;
  bool changed_ = false;  // a phase: tell at once

  std::map<Key, Member> members_;
  std::set<Key> finished_;
  std::map<JobId, Generation> fence_;             // the highest that was run or stopped here
  std::vector<coordinator::MemberExited> exits_;  // not acknowledged
  std::vector<coordinator::CheckpointPublished> checkpoints_;  // not acknowledged
};

}  // namespace weft::simulation
