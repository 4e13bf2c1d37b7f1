// What the coordinator tells workers. Imperative, and level-triggered: each may be lost, late or
// doubled, and is sent again after a heartbeat that shows it is still needed.
//
// The agent's side of the contract:
//   StartMember  of a (job, generation) that runs or is not above one that was already run or
//   stopped
//                here: ignored. Otherwise the member starts, and heartbeats list it until it exits.
//   StopMember   of a member that runs: stop it as asked; kNow after kSaveFirst makes haste. Of one
//   that
//                never ran here: its StartMember, should it still come, is ignored, and a
//                MemberExited with kStopped answers (without that answer its slots come free only
//                after missing_grace).
//   Exits and checkpoints are repeated until acknowledged.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/core/ids.h"
#include "coordinator/core/job.h"

namespace weft::coordinator {

struct StartMember {
  WorkerName worker;
  Incarnation incarnation;
  JobId job;
  std::string job_name;
  Generation generation;
  int32_t member_index = 0;           // of `worker` in `gang`; member 0 leads
  std::vector<GangMember> gang;       // the whole gang, by first_rank
  std::optional<Checkpoint> restore;  // start from it; none = from the beginning
  SharedBytes spec;
};

struct StopMember {
  WorkerName worker;
  Incarnation incarnation;
  JobId job;
  Generation generation;
  StopMode mode = StopMode::kNow;  // never kNone
  Reason reason;
};

// This incarnation did not join, or another one has taken its name since. The service ends the
// stream with `why`; the agent connects and joins again.
struct RefuseWorker {
  WorkerName worker;
  Incarnation incarnation;
  absl::Status why;
};

using Command = std::variant<StartMember, StopMember, RefuseWorker>;

[[nodiscard]] const char* CommandName(const Command& command);  // "StartMember"
[[nodiscard]] const WorkerName& WorkerOf(const Command& command);
[[nodiscard]] Incarnation IncarnationOf(const Command& command);

}  // namespace weft::coordinator
