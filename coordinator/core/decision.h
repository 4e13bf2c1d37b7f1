// One decision in the making: records facts (each applied at once), collects commands, and holds
// what the handlers of the different events share. Internal to the core.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/core/decide.h"

namespace weft::coordinator {

// What a member's agent said beside how it ended; see MemberExited.
struct LastWords {
  StepIndex step;
  std::string weights_hash;
  std::optional<int32_t> rank;
};

class Decision {
 public:
  Decision(ClusterState& state, absl::Time now, const Policy& policy)
      : state_(state), now_(now), policy_(policy) {}

  void On(const Event& event);
  // Places what can be placed, sets the wake-up, and gives the outcome.
  [[nodiscard]] Outcome Finish();

 private:
  // decide_requests.cc: people
  void Handle(const JobSubmitted& event);
  void Handle(const JobCancelRequested& event);
  void Handle(const JobPauseRequested& event);
  void Handle(const JobResumeRequested& event);
  void Handle(const JobDeleteRequested& event);
  void Handle(const DrainRequested& event);
  void Handle(const UndrainRequested& event);
  void Handle(const QueueCreateRequested& event);
  void Handle(const QueueUpdateRequested& event);
  void Handle(const QueueDeleteRequested& event);
  // decide_workers.cc: workers and time
  void Handle(const WorkerJoined& event);
  void Handle(const WorkerLeft& event);
  void Handle(const Heartbeat& event);
  void Handle(const MemberExited& event);
  void Handle(const CheckpointPublished& event);
  void Handle(const CoordinatorStarted& event);
  void Handle(const TimerFired& event);

  // decide_requests.cc
  // Its gangs save and move. `until_after`: WorkerDrainSet's incarnation.
  void Drain(const Worker& worker, const std::string& reason, const Incarnation& until_after);

  // decide_workers.cc
  void Compare(const WorkerName& name);
  void ComparePlaced(const Worker& worker, JobId id);
  void LoseWorker(const WorkerName& name, std::string why);
  void OnJobDeadline(JobId id);
  void OnWorkerDeadline(const WorkerName& name);
  // False, with the reply set, when it is not the incarnation that joined last.
  [[nodiscard]] bool IsPresent(const WorkerName& name, const Incarnation& incarnation);

  // decide_gangs.cc: what becomes of a gang
  void StopGang(const Job& job, StopMode mode, const Reason& reason);
  void EndMember(const Job& job, const WorkerName& worker, MemberOutcome outcome,
                 const Reason& reason, LastWords said = {});
  void Release(const Job& job);
  void MaybeRunning(const Job& job);
  void PlaceQueued();
  void Place(const Job& job, std::string device_class, std::vector<GangMember> members);
  void SendStart(const Job& job, const GangMember& member);
  void SendStop(const Worker& worker, JobId job, Generation generation, StopMode mode,
                const Reason& reason);

  void Record(Fact fact);
  void Send(Command command) { outcome_.commands.push_back(std::move(command)); }
  void Refuse(absl::Status why) { outcome_.reply = std::move(why); }
  // Null, with the reply set to kNotFound, when there is none. Stays valid until the job is
  // deleted.
  [[nodiscard]] const Job* RequireJob(JobId id);
  [[nodiscard]] const Worker* RequireWorker(const WorkerName& name);

  ClusterState& state_;
  const absl::Time now_;
  const Policy& policy_;
  Outcome outcome_;
  bool supply_changed_ = false;  // somebody may be placeable now who was not before
};

}  // namespace weft::coordinator
