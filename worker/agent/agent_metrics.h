// What an agent measures: of itself, of its devices, and of the ranks that it runs. The series of a
// rank end with its member. (A label `job` would be renamed by Prometheus, which gives every target
// one of its own.)
#pragma once

#include "common/metrics/metrics_sink.h"

namespace weft::worker {

inline constexpr Metric kWorkerFacts = {.name = "weft_worker_info",
                                        .help = "Always 1; the label says whose metrics these are.",
                                        .labels = {"worker"}};
inline constexpr Metric kRanksRunning = {.name = "weft_worker_ranks",
                                         .help = "Rank processes that run on this worker."};
inline constexpr Metric kMembersRunning = {.name = "weft_worker_members",
                                           .help = "Jobs that this worker takes part in."};
inline constexpr Metric kLinkUp = {.name = "weft_worker_link_up",
                                   .help = "1 while the coordinator is connected."};
inline constexpr Metric kLinkHeartbeatAge = {
    .name = "weft_worker_link_heartbeat_age_seconds",
    .help = "Time since the last heartbeat was sent over a working link."};
inline constexpr Metric kLinkLosses = {.name = "weft_worker_link_losses_total",
                                       .help = "Connections to the coordinator that were lost.",
                                       .kind = MetricKind::kCounter};
inline constexpr Metric kExits = {.name = "weft_worker_exits_total",
                                  .help = "Members that ended on this worker.",
                                  .kind = MetricKind::kCounter,
                                  .labels = {"outcome"}};
inline constexpr Metric kStartSeconds = {
    .name = "weft_worker_start_seconds",
    .help = "From the order to start a member until its ranks ran and had met their relays.",
    .kind = MetricKind::kHistogram,
    .labels = {"relays"},
    .buckets = kSecondsBuckets};
inline constexpr Metric kSpoolBytes = {.name = "weft_worker_log_spool_bytes",
                                       .help = "Bytes of job logs on this worker's disk."};
inline constexpr Metric kLogLinesDropped = {
    .name = "weft_worker_log_lines_dropped",
    .help = "Log lines that were dropped since the start: over the limit, or the disk was full."};
inline constexpr Metric kLoopLag = {.name = "weft_worker_loop_lag_seconds",
                                    .help = "How long the agent's oldest task has waited."};

// --- devices: the same names for every kind of device
// ---------------------------------------------------------------------------

inline constexpr Metric kDeviceMemoryUsed = {
    .name = "weft_device_memory_used_bytes",
    .help = "Memory that ranks use on a device; of a CPU device, what they hold of the host's.",
    .labels = {"device", "kind"}};
inline constexpr Metric kDeviceMemory = {.name = "weft_device_memory_bytes",
                                         .help = "Memory that a device has.",
                                         .labels = {"device", "kind"}};
inline constexpr Metric kDeviceUtilization = {
    .name = "weft_device_utilization_ratio",
    .help =
        "Share of the last second in which a device computed, 0 to 1; of a CPU device, the "
        "mean over its threads.",
    .labels = {"device", "kind"}};

// --- ranks
// ---------------------------------------------------------------------------

inline constexpr Metric kRankStep = {
    .name = "weft_rank_step", .help = "Last step of a rank.", .labels = {"job_name", "rank"}};
inline constexpr Metric kRankSteps = {.name = "weft_rank_steps_total",
                                      .help = "Steps that a rank has taken in this generation.",
                                      .kind = MetricKind::kCounter,
                                      .labels = {"job_name", "rank"}};
inline constexpr Metric kRankTime = {
    .name = "weft_rank_time_seconds_total",
    .help =
        "Where a rank's time goes: compute, exchange (mostly waiting for slower ranks), data, "
        "checkpoint, evaluation, restore.",
    .kind = MetricKind::kCounter,
    .labels = {"job_name", "rank", "cause"}};

}  // namespace weft::worker
