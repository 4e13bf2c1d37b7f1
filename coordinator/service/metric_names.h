// Every metric that the coordinator serves, beside weft_rpc_seconds. The `job_name` series exist
// while a job has been placed and has not finished. (A label `job` would be renamed by Prometheus,
// which gives every target one of its own.)
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

inline constexpr Metric kLeader = {
    .name = "weft_leader",
    .help = "1 while this coordinator serves, 0 while it starts or stands by for another one.",
    .kind = MetricKind::kGauge,
    .labels = {}};

// --- the cluster
// ------------------------------------------------------------------------------------

inline constexpr Metric kJobCount = {.name = "weft_jobs",
                                     .help = "Jobs by state and queue.",
                                     .kind = MetricKind::kGauge,
                                     .labels = {"state", "queue"}};
inline constexpr Metric kWorkerCount = {
    .name = "weft_workers",
    .help = "Workers by state; one that was drained and has gone is DRAINED, not LOST.",
    .kind = MetricKind::kGauge,
    .labels = {"state"}};
inline constexpr Metric kSlots = {
    .name = "weft_slots",
    .help = "Places for ranks on workers that are connected: free to be given, or used.",
    .kind = MetricKind::kGauge,
    .labels = {"device_kind", "state"}};
inline constexpr Metric kHeartbeatAge = {.name = "weft_worker_heartbeat_age_seconds",
                                         .help = "Time since the last sign of life of a worker.",
                                         .kind = MetricKind::kGauge,
                                         .labels = {"worker"}};
inline constexpr Metric kQueueWait = {
    .name = "weft_queue_wait_seconds",
    .help = "Time from a job's submission to its first placement.",
    .kind = MetricKind::kHistogram,
    .labels = {"queue"},
    .buckets = kWaitBuckets};
inline constexpr Metric kOldestWait = {
    .name = "weft_queue_oldest_wait_seconds",
    .help = "How long the job that waits longest has been QUEUED; 0 when none waits.",
    .kind = MetricKind::kGauge,
    .labels = {"queue"}};
inline constexpr Metric kHeldWorkers = {.name = "weft_queue_held_workers",
                                        .help = "Workers that the queue's jobs hold together.",
                                        .kind = MetricKind::kGauge,
                                        .labels = {"queue"}};
inline constexpr Metric kWorkerLimit = {
    .name = "weft_queue_worker_limit",
    .help = "How many workers the queue's jobs may hold together; absent without a limit.",
    .kind = MetricKind::kGauge,
    .labels = {"queue"}};
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
inline constexpr Metric kRecoverySeconds = {
    .name = "weft_recovery_seconds",
    .help = "Time from the first sign that a gang ends until the next one trains.",
    .kind = MetricKind::kHistogram,
    .buckets = kWaitBuckets};

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
inline constexpr Metric kLoopLag = {
    .name = "weft_loop_lag_seconds",
    .help = "How late the event loop ran a timer; looked at once a second.",
    .kind = MetricKind::kHistogram,
    .buckets = kSecondsBuckets};

// --- jobs
// -------------------------------------------------------------------------------------------

inline constexpr Metric kJobFacts = {.name = "weft_job_info",
                                     .help = "Always 1; the labels say where the job belongs.",
                                     .kind = MetricKind::kGauge,
                                     .labels = {"job_name", "queue"}};
inline constexpr Metric kJobState = {
    .name = "weft_job_state",
    .help = "1 for the state that the job is in; no other state has a series.",
    .kind = MetricKind::kGauge,
    .labels = {"job_name", "state"}};
inline constexpr Metric kJobLoss = {.name = "weft_job_loss",
                                    .help = "Loss of the last step, in nats a target.",
                                    .kind = MetricKind::kGauge,
                                    .labels = {"job_name"}};
inline constexpr Metric kJobValidationLoss = {
    .name = "weft_job_validation_loss",
    .help = "Loss of the last evaluation, in nats a target.",
    .kind = MetricKind::kGauge,
    .labels = {"job_name"}};
// Of the last step (split="train") and of the last evaluation (split="validation"), of jobs that
// report them.
inline constexpr Metric kJobAccuracy = {.name = "weft_job_accuracy_ratio",
                                        .help = "Share of targets that were the likeliest class.",
                                        .kind = MetricKind::kGauge,
                                        .labels = {"job_name", "split"}};
inline constexpr Metric kJobBitsPerByte = {.name = "weft_job_bits_per_byte",
                                           .help = "Loss in bits, where targets are bytes.",
                                           .kind = MetricKind::kGauge,
                                           .labels = {"job_name", "split"}};
inline constexpr Metric kJobPerplexity = {.name = "weft_job_perplexity",
                                          .help = "Exponential of the loss of other tokens.",
                                          .kind = MetricKind::kGauge,
                                          .labels = {"job_name", "split"}};
inline constexpr Metric kJobGraphDensity = {
    .name = "weft_job_graph_density_ratio",
    .help = "Share of the pairs of tokens that the layer's sampled graphs linked in the last step.",
    .kind = MetricKind::kGauge,
    .labels = {"job_name", "layer"}};
inline constexpr Metric kJobGradientNorm = {.name = "weft_job_gradient_norm",
                                            .help = "Norm of the last gradient, before clipping.",
                                            .kind = MetricKind::kGauge,
                                            .labels = {"job_name"}};
inline constexpr Metric kJobLearningRate = {.name = "weft_job_learning_rate",
                                            .help = "Learning rate of the last step.",
                                            .kind = MetricKind::kGauge,
                                            .labels = {"job_name"}};
inline constexpr Metric kJobStep = {.name = "weft_job_step",
                                    .help = "Last step.",
                                    .kind = MetricKind::kGauge,
                                    .labels = {"job_name"}};
inline constexpr Metric kJobPlannedSteps = {.name = "weft_job_planned_steps",
                                            .help = "Steps that the job has altogether.",
                                            .kind = MetricKind::kGauge,
                                            .labels = {"job_name"}};
inline constexpr Metric kJobStepTime = {
    .name = "weft_job_last_step_timestamp_seconds",
    .help = "When the last step was heard of, or the job was seen to begin to train.",
    .kind = MetricKind::kGauge,
    .labels = {"job_name"}};
inline constexpr Metric kJobRunningSince = {
    .name = "weft_job_running_since_timestamp_seconds",
    .help = "When the gang began to train, or the coordinator, where it found it training.",
    .kind = MetricKind::kGauge,
    .labels = {"job_name"}};
inline constexpr Metric kJobSkippedSteps = {
    .name = "weft_job_skipped_steps_total",
    .help = "Steps without an update, because the gradient was not finite.",
    .kind = MetricKind::kCounter,
    .labels = {"job_name"}};
inline constexpr Metric kJobTokens = {.name = "weft_job_tokens_total",
                                      .help = "Tokens trained on, repeated steps included.",
                                      .kind = MetricKind::kCounter,
                                      .labels = {"job_name"}};
inline constexpr Metric kJobStepSeconds = {.name = "weft_job_step_seconds",
                                           .help = "Wall time of a step.",
                                           .kind = MetricKind::kHistogram,
                                           .labels = {"job_name"},
                                           .buckets = kStepBuckets};
inline constexpr Metric kJobTime = {
    .name = "weft_job_time_seconds_total",
    .help =
        "Where a job's time goes: compute, exchange, data, checkpoint, evaluation, restore, redo "
        "(steps that a failure made it repeat), wait (for workers).",
    .kind = MetricKind::kCounter,
    .labels = {"job_name", "cause"}};
inline constexpr Metric kJobGeneration = {.name = "weft_job_generation",
                                          .help = "How many gangs were formed for the job.",
                                          .kind = MetricKind::kGauge,
                                          .labels = {"job_name"}};
inline constexpr Metric kJobWorkers = {.name = "weft_job_workers",
                                       .help = "Workers that the job holds.",
                                       .kind = MetricKind::kGauge,
                                       .labels = {"job_name"}};
inline constexpr Metric kJobRecoveries = {
    .name = "weft_job_recoveries_total",
    .help = "Gangs that ended before the job did, by cause, since the coordinator started.",
    .kind = MetricKind::kCounter,
    .labels = {"job_name", "cause"}};
inline constexpr Metric kJobRecoveryTime = {
    .name = "weft_job_last_recovery_timestamp_seconds",
    .help = "When the job's last gang that ended before the job had ended.",
    .kind = MetricKind::kGauge,
    .labels = {"job_name"}};
inline constexpr Metric kJobCheckpoints = {
    .name = "weft_job_checkpoints_total",
    .help = "Checkpoints that became durable since the coordinator started.",
    .kind = MetricKind::kCounter,
    .labels = {"job_name"}};
inline constexpr Metric kJobCheckpointEverySteps = {
    .name = "weft_job_checkpoint_every_steps",
    .help = "Steps between checkpoints as the job wants it; 0: only after the last step.",
    .kind = MetricKind::kGauge,
    .labels = {"job_name"}};
inline constexpr Metric kJobCheckpointStep = {.name = "weft_job_checkpoint_step",
                                              .help = "Step of the newest checkpoint.",
                                              .kind = MetricKind::kGauge,
                                              .labels = {"job_name"}};
inline constexpr Metric kJobCheckpointBytes = {.name = "weft_job_checkpoint_bytes",
                                               .help = "Size of the newest checkpoint.",
                                               .kind = MetricKind::kGauge,
                                               .labels = {"job_name"}};
inline constexpr Metric kCheckpointTime = {
    .name = "weft_checkpoint_last_success_timestamp_seconds",
    .help = "When the job's newest checkpoint became durable.",
    .kind = MetricKind::kGauge,
    .labels = {"job_name"}};

}  // namespace weft::coordinator
