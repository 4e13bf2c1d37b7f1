// Between the wire and the agent's core: each conversion once.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "weft/v1/rank_link.pb.h"
#include "weft/v1/worker_link.pb.h"
#include "worker/agent/agent_types.h"

namespace weft::worker {

// "demo-3" of "jobs/demo-3": names folders. kInvalidArgument for anything else than a plain name.
absl::StatusOr<std::string> JobIdOf(absl::string_view job);

// `worker` is our own name. kInvalidArgument when the order cannot be ours: no such member, no
// ranks, a name that is none.
absl::StatusOr<MemberOrder> ToOrder(const v1::StartMember& message, absl::string_view worker);
// kInvalidArgument without a mode.
absl::StatusOr<StopReceived> ToEvent(const v1::StopMember& message);

v1::MemberStatus ToMessage(const MemberSnapshot& snapshot);
v1::MemberExit ToMessage(ReportId id, const ExitReport& report);
v1::WorkerMessage ToMessage(const Report& report);

// Unknown values become the most careful known ones.
MemberPhase ToPhase(v1::MemberStatus::Phase phase);
MemberOutcome ToOutcome(v1::MemberExit::Outcome outcome);

// "succeeded", "peer_lost", ...: of metrics and logs.
const char* NameOf(MemberOutcome outcome);

}  // namespace weft::worker
