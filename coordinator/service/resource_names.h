// Resource names of the API: "jobs/demo-12", "jobs/demo-12/checkpoints/100", "workers/host-a",
// "queues/default". A name that is none is kInvalidArgument with the field it stood in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/core/ids.h"

namespace weft::coordinator {

inline constexpr char kJobs[] = "jobs/";
inline constexpr char kWorkers[] = "workers/";
inline constexpr char kQueues[] = "queues/";

std::string JobResource(absl::string_view job_name);
std::string WorkerResource(absl::string_view worker);
std::string QueueResource(absl::string_view queue);
std::string CheckpointResource(absl::string_view job_name, StepIndex step);

// "jobs/demo-12": the job's name ("demo-12") and the number in it. Says nothing of whether such a
// job exists.
struct JobName {
  std::string name;
  JobId id;
};
absl::StatusOr<JobName> ParseJobResource(absl::string_view field, absl::string_view resource);

absl::StatusOr<WorkerName> ParseWorkerResource(absl::string_view field, absl::string_view resource);
absl::StatusOr<QueueName> ParseQueueResource(absl::string_view field, absl::string_view resource);

// "jobs/demo-12" (no step) or "jobs/demo-12/checkpoints/100".
struct CheckpointName {
  JobName job;
  std::optional<StepIndex> step;
};
absl::StatusOr<CheckpointName> ParseCheckpointResource(absl::string_view field,
                                                       absl::string_view resource);

}  // namespace weft::coordinator
