#include "coordinator/store/row_changes.h"

#include <type_traits>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

namespace weft::coordinator {

absl::StatusOr<ClusterState> StateOfRows(absl::string_view store, std::vector<Job> jobs,
                                         std::vector<Worker> workers,
                                         std::vector<QueueSettings> queues, JobId last_job) {
  ClusterState state =
      RestoreState(std::move(jobs), std::move(workers), std::move(queues), last_job);
  if (const absl::Status whole = CheckInvariants(state); !whole.ok()) {
    return absl::DataLossError(absl::StrCat(store, " does not fit together: ", whole.message(),
                                            "; restore it from a copy"));
  }
  return state;
}

RowChanges ApplyFacts(ClusterState& state, absl::Span<const Fact> facts) {
  RowChanges changes;
  for (const Fact& fact : facts) {
    Apply(state, fact);
    if (JobOf(fact) != JobId()) changes.jobs.insert(JobOf(fact));
    std::visit(
        [&changes](const auto& it) {
          using F = std::decay_t<decltype(it)>;
          if constexpr (std::is_same_v<F, WorkerRegistered> || std::is_same_v<F, WorkerDrainSet> ||
                        std::is_same_v<F, WorkerForgotten>) {
            changes.workers.insert(it.worker);
          } else if constexpr (std::is_same_v<F, QueueSet>) {
            changes.queues.insert(it.settings.name);
          } else if constexpr (std::is_same_v<F, QueueDeleted>) {
            changes.queues.insert(it.name);
          }
        },
        fact);
  }
  return changes;
}

std::string ReadableTime(absl::Time time) {
  if (time == absl::InfiniteFuture() || time == absl::InfinitePast()) return "";
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

}  // namespace weft::coordinator
