// Why a job is where it is: which rule holds it, which resource is short and by how much, who has
// it, and what would start at once instead.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/core/ids.h"
#include "coordinator/core/policy.h"
#include "coordinator/core/state.h"

namespace weft::coordinator {

enum class WaitRule : uint8_t {
  kNotWaiting,     // it runs, or it rests
  kStopping,       // ranks of its last generation have not ended yet
  kBackOff,        // waits after a failure
  kQueueLimit,     // its queue holds as many jobs as it may
  kNoSuchDevice,   // no worker of this device kind (or of its checkpoint's class) is connected
  kTooFewWorkers,  // asks for more than the cluster has, free or not
  kWorkersBusy,    // there are enough, but others hold them
  kBehindOthers,   // there would be enough, but jobs before it wait for the same ones
  kGathering,      // the coordinator has just started and waits for more workers
  kAboutToStart,   // nothing is in its way; the next event places it
};
[[nodiscard]] const char* ToString(WaitRule rule);  // "WORKERS_BUSY"

struct Holder {  // of the resource that is short
  JobId job;
  std::string job_name;
  int32_t workers = 0;
};

struct Explanation {
  WaitRule rule = WaitRule::kNotWaiting;
  std::string summary;  // one or two sentences for people

  // The resource: workers of device_kind (and of device_class, when not empty), or of the queue the
  // places for running jobs.
  std::string device_kind;
  std::string device_class;
  QueueName queue;
  int32_t needed = 0;                // at least
  int32_t available = 0;             // now
  int32_t existing = 0;              // connected, not draining, free or not
  int32_t draining = 0;              // connected, but being drained
  int32_t short_by = 0;              // needed - available, at least 0
  std::vector<Holder> holders;       // most workers first; at most 10
  std::optional<JobId> first_ahead;  // kBehindOthers: the first that waits before it
  int32_t ahead = 0;                 // jobs in front of it for the same device kind

  std::optional<int32_t> would_start_with;  // min_workers with which it would start now
  std::optional<absl::Time> next_attempt;   // kBackOff, kGathering
};

// kNotFound when there is no such job.
[[nodiscard]] absl::StatusOr<Explanation> Explain(const ClusterState& state, JobId job,
                                                  absl::Time now);

}  // namespace weft::coordinator
