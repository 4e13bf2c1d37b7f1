// What a training run does: plain values. Everything that decides the bits of the result is in
// here; where and on how many ranks it runs is not.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "worker/data/data_config.h"
#include "worker/model/model_config.h"
#include "worker/train/learning_rate.h"
#include "worker/train/task_metrics.h"

namespace weft::worker {

struct AdamWConfig {
  double beta1 = 0.9;
  // Where the learning rate has its peak, on a line from and back to beta1 (Smith and Topin 2018,
  // "Super-convergence"). Absent: beta1 everywhere.
  std::optional<double> beta1_at_peak = std::nullopt;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  // norm weights are not decayed
};

// How a step's global batch is cut. The shards are the same for any number of ranks.
struct BatchConfig {
  int64_t sequences = 8;  // of a step; with pairs, pairs of sequences
  int64_t sequence_length = 256;
  int64_t shards = 8;       // divides sequences
  int64_t micro_batch = 1;  // sequences computed at once; divides sequences / shards

  [[nodiscard]] int64_t sequences_per_shard() const { return sequences / shards; }
};

struct EvaluationConfig {
  int64_t every_steps = 100;  // 0: only after the last step
  int64_t sequences = 64;     // at most; fewer when the held-out part is smaller
};

struct CheckpointConfig {
  int64_t every_steps = 100;  // 0: only after the last step
};

// How the gradients of a step's shards are added.
enum class Reproducibility : uint8_t {
  kExact,      // as integers: the same bits for any number of ranks
  kFixedGang,  // in floating point: the same bits for as many ranks on the same hardware
};

struct TrainConfig {
  ModelConfig model;
  BatchConfig batch;
  DataConfig data;
  int64_t steps = 1;
  uint64_t seed = 0;
  AdamWConfig optimizer;
  LearningRateConfig learning_rate;  // its total_steps is `steps`
  double clip_norm = 1.0;            // 0: no clipping
  Reproducibility reproducibility = Reproducibility::kExact;
  EvaluationConfig evaluation;
  CheckpointConfig checkpoint;
  // Tokens of the slices that sequences are computed in; 0: whole. Gradients are the same up to
  // rounding, so that a run may go on with another length: no part of the fingerprint.
  int64_t slice_length = 0;
  // Ranks share the optimizer's state out. The same bits: no part of the fingerprint.
  bool sharded_optimizer = false;
  LossForm loss_form = LossForm::kNone;  // for reports alone
};

// Sequences of a sample: 2 of a pair.
int64_t RowsPerSample(const ModelConfig& model);
// Tokens of one step's samples.
int64_t TokensOfStep(const TrainConfig& config);

// The beta1 of the update that makes step `step`.
double Beta1At(const TrainConfig& config, int64_t step);

// kInvalidArgument with every problem, separated by "; ".
absl::Status Validate(const TrainConfig& config);

// A digest of everything that the weights after a step depend on, data aside: a checkpoint can be
// resumed only under an equal one.
std::string Fingerprint(const TrainConfig& config);

}  // namespace weft::worker
