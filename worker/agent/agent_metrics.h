// What an agent measures of itself.
#pragma once

#include "common/metrics/metrics_sink.h"

namespace weft::worker {

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

}  // namespace weft::worker
