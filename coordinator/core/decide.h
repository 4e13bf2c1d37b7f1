// The brain: what follows from an event. Pure: same state, event, time and policy, same outcome.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/core/commands.h"
#include "coordinator/core/events.h"
#include "coordinator/core/facts.h"
#include "coordinator/core/policy.h"
#include "coordinator/core/state.h"

namespace weft::coordinator {

struct Outcome {
  // For whoever brought the event, given after the facts are committed. The job that a request is
  // about (0 when it is about none), or:
  //   kNotFound            no such job, worker or queue
  //   kAlreadyExists       a queue or a live worker of that name exists
  //   kResourceExhausted   too many jobs wait
  //   kInvalidArgument     a request that can never be served (limits, a request id used for
  //   another spec) kFailedPrecondition  not in this state; the text says which state it is in
  //   kAborted             from an older generation or incarnation
  absl::StatusOr<JobId> reply = JobId();
  std::vector<Fact> facts;        // commit these first
  std::vector<Command> commands;  // then send these; losing one is harmless
  // Then call again with TimerFired, unless another event comes first; infinite: nothing to wait
  // for.
  absl::Time next_wakeup = absl::InfiniteFuture();
};

// Decides, and applies each fact to `state` as it is decided, so that the next event can be decided
// before the facts of this one are stored. The caller must throw `state` away when they cannot be.
Outcome DecideAhead(ClusterState& state, const Event& event, absl::Time now, const Policy& policy);

// The same on a copy.
Outcome Decide(const ClusterState& state, const Event& event, absl::Time now, const Policy& policy);

}  // namespace weft::coordinator
