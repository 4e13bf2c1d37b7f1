// Every metric that the coordinator serves, beside weft_rpc_seconds. The `job` series exist while a
// job has been placed and has not finished.
#pragma once

#include "common/metrics/metrics_sink.h"

namespace weft::coordinator {

inline constexpr double kWaitBuckets[] = {0.01, 0.1, 0.5, 1, 2, 5, 15, 60, 300, 1800, 7200, 43200};
inline constexpr double kStepBuckets[] = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                                          2.5,  5,     10,   30,  60,   300};

inline constexpr Metric kBuildFacts = {.name = "weft_build_info",
                                       .help = "Always 1; the labels say what runs.",
                                       .kind = MetricKind::kGauge,
                                       .labels = {"program", "version"}};

// --- the cluster
// ------------------------------------------------------------------------------------

inline constexpr Metric kJobCount = {.name = "weft_jobs",
                                     .help = "Jobs by state and queue.",
                                     .kind = MetricKind::kGauge,
                                     .labels = {"state", "queue"}};
inline constexpr Metric kWorkerCount = {.name = "weft_workers",
                                        .help = "Workers by state.",
                                        .kind = MetricKind::kGauge,
                                        .labels = {"state"}};
inline constexpr Metric kHeartbeatAge = {.name = "weft_worker_heartbeat_age_seconds",
                                         .help = "Time since the last sign of life of a worker.",
                                         .kind = MetricKind::kGauge,
                                         .labels = {"worker"}};
inline constexpr Metric kQueueWait = {
    .name = "weft_queue_wait_seconds",
    .help = "Time from a job's submission to its first placement.",
    .kind = MetricKind::kHistogram,
    .buckets = kWaitBuckets};
inline constexpr Metric kSubmissions = {
    .name = "weft_submissions_total",
    .help = "Jobs that clients asked for: accepted, or the code of the refusal.",
    .kind = MetricKind::kCounter,
    .labels = {"result"}};
inline constexpr Metric kRecoveries = {
    .name = "weft_recoveries_total",
    .help = "Gangs that ended before their job did, by cause; the job goes on with another.",
    .kind = MetricKind::kCounter,
    .labels = {"cause"}};

// --- the coordinator itself
// -------------------------------------------------------------------------

inline constexpr Metric kDecideSeconds = {.name = "weft_decide_seconds",
                                          .help = "Time to decide what follows from one event.",
                                          .kind = MetricKind::kHistogram,
                                          .buckets = kSecondsBuckets};
inline constexpr Metric kCommitSeconds = {
    .name = "weft_commit_seconds",
    .help = "Time to make facts durable, the disk's sync included.",
    .kind = MetricKind::kHistogram,
    .labels = {"result"},
    .buckets = kSecondsBuckets};
inline constexpr Metric kCommittedFacts = {.name = "weft_committed_facts_total",
                                           .help = "Facts that were made durable.",
                                           .kind = MetricKind::kCounter};
inline constexpr Metric kPendingEvents = {.name = "weft_pending_events",
                                          .help = "Events whose facts are not durable yet.",
                                          .kind = MetricKind::kGauge};
inline constexpr Metric kLoopLag = {.name = "weft_loop_lag_seconds",
                                    .help = "How late the event loop ran its last timer.",
                                    .kind = MetricKind::kGauge};

// --- jobs
// -------------------------------------------------------------------------------------------

inline constexpr Metric kJobLoss = {.name = "weft_job_loss",
                                    .help = "Loss of the last step, in nats a token.",
                                    .kind = MetricKind::kGauge,
                                    .labels = {"job"}};
inline constexpr Metric kJobValidationLoss = {
    .name = "weft_job_validation_loss",
    .help = "Loss of the last evaluation, in nats a token.",
    .kind = MetricKind::kGauge,
    .labels = {"job"}};
inline constexpr Metric kJobStep = {
    .name = "weft_job_step", .help = "Last step.", .kind = MetricKind::kGauge, .labels = {"job"}};
inline constexpr Metric kJobTokens = {.name = "weft_job_tokens_total",
                                      .help = "Tokens trained on, repeated steps included.",
                                      .kind = MetricKind::kCounter,
                                      .labels = {"job"}};
inline constexpr Metric kJobStepSeconds = {.name = "weft_job_step_seconds",
                                           .help = "Wall time of a step.",
                                           .kind = MetricKind::kHistogram,
                                           .labels = {"job"},
                                           .buckets = kStepBuckets};
inline constexpr Metric kJobTime = {
    .name = "weft_job_time_seconds_total",
    .help =
        "Where a job's time goes: compute, exchange, data, checkpoint, evaluation, restore, redo "
        "(steps that a failure made it repeat), wait (for workers).",
    .kind = MetricKind::kCounter,
    .labels = {"job", "cause"}};
inline constexpr Metric kCheckpointTime = {
    .name = "weft_checkpoint_last_success_timestamp_seconds",
    .help = "When the job's newest checkpoint became durable.",
    .kind = MetricKind::kGauge,
    .labels = {"job"}};

}  // namespace weft::coordinator
