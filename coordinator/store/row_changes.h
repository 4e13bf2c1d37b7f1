// What a commit changes in a database that keeps the current rows beside the facts: shared by the
// stores that do.
#pragma once

#include <set>
#include <string>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "coordinator/core/facts.h"
#include "coordinator/core/state.h"

namespace weft::coordinator {

struct RowChanges {
  std::set<JobId> jobs;
  std::set<WorkerName> workers;
  std::set<QueueName> queues;
};

// Applies durable facts to `state`, and says of which rows that changes the contents. A row whose
// subject is gone from `state` is to be deleted.
[[nodiscard]] RowChanges ApplyFacts(ClusterState& state, absl::Span<const Fact> facts);

// A time in a column for people; empty when it is infinite.
[[nodiscard]] std::string ReadableTime(absl::Time time);

}  // namespace weft::coordinator
