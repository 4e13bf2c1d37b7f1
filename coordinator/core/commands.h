// What the coordinator tells workers. Imperative, and level-triggered: each may be lost, late or
// doubled, and is sent again after a heartbeat that shows it is still needed.
//
// The agent's side of the contract:
//   StartMember  known (job, generation), or one not above a generation of that job that was
//   already
//                stopped or forgotten here: ignored. Otherwise the member starts.
//   StopMember   runs: stop it as asked; kNow after kSaveFirst makes haste. Unknown: it counts as
//   ended
//                with kStopped from now on, and its StartMember, should it still come, is refused.
//   ForgetMember drops an ended member from heartbeats (never one that runs).
//   Every heartbeat lists all members that run and all that ended and were not forgotten.
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

struct ForgetMember {
  WorkerName worker;
  Incarnation incarnation;
  JobId job;
  Generation generation;
};

// This incarnation may not work here: a later one of the same name is connected, or what it offers
// is not acceptable. The service ends the stream with `why`.
struct RefuseWorker {
  WorkerName worker;
  Incarnation incarnation;
  absl::Status why;
};

using Command = std::variant<StartMember, StopMember, ForgetMember, RefuseWorker>;

[[nodiscard]] const char* CommandName(const Command& command);  // "StartMember"
[[nodiscard]] const WorkerName& WorkerOf(const Command& command);
[[nodiscard]] Incarnation IncarnationOf(const Command& command);

}  // namespace weft::coordinator
