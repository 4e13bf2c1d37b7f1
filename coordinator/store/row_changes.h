// The rows of a database that keeps the current ones beside the facts, as a state, and what a
// commit changes in them: shared by the stores that do.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "coordinator/core/facts.h"
#include "coordinator/core/state.h"

namespace weft::coordinator {

// The state that all rows of `store`, its name for messages, give. kDataLoss when they do not fit
// together.
absl::StatusOr<ClusterState> StateOfRows(absl::string_view store, std::vector<Job> jobs,
                                         std::vector<Worker> workers,
                                         std::vector<QueueSettings> queues, JobId last_job);

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
