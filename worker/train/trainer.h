// Trainer: one rank's part of training. It owns the weights, the optimizer and everything a step
// needs; the ranks of a gang make the same calls and hold the same weights after each.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/time/clock.h"
#include "kernels/device/device.h"
#include "worker/comm/exchange.h"
#include "worker/data/sample_order.h"
#include "worker/data/sample_source.h"
#include "worker/model/model.h"
#include "worker/train/batch_loader.h"
#include "worker/train/captured_passes.h"
#include "worker/train/exchange_thread.h"
#include "worker/train/gradient_reducer.h"
#include "worker/train/optimizer.h"
#include "worker/train/shard_plan.h"
#include "worker/train/shared_values.h"
#include "worker/train/task_metrics.h"
#include "worker/train/time_ledger.h"
#include "worker/train/train_config.h"

namespace weft::worker {

// Where a rank runs. All of it outlives the trainer.
struct RankPlace {
  kernels::Device& device;
  Exchange& exchange;  // prepared
  int rank = 0;
  int ranks = 1;
  TimeLedger& time;
  const Clock& clock;
  absl::Duration exchange_timeout = absl::Minutes(5);  // at first; see set_exchange_timeout
  // Whether passes may be captured and replayed (captured_passes.h); the bits are the same.
  bool captures_passes = true;
  // False where weights come from a checkpoint: drawing those of a large model takes seconds.
  bool draws_weights = true;
};

struct StepResult {
  int64_t step = 0;  // counts from 1
  // Mean over the step's targets, in nats, with what the model adds to it.
  double loss = 0;
  std::vector<StepMetric> metrics = {};  // likewise; see task_metrics.h
  double gradient_norm = 0;              // before clipping
  double learning_rate = 0;
  bool skipped = false;         // the gradient was not finite: no update was made
  bool stop_requested = false;  // by any rank: all ranks see the same
};

// The optimizer's moments of all weights, as bytes of the sum type.
struct HostMoments {
  std::string first;
  std::string second;
};

class Trainer {
 public:
  // Weights are drawn from the seed, or unspecified until a checkpoint's are there.
  // kInvalidArgument, kUnimplemented when the configuration fits neither itself, the data, the
  // device nor the number of ranks. Data outlives the trainer.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(const TrainConfig& config,
                                                         const SampleSource& data,
                                                         const RankPlace& place);

  // How long each exchange may take from now on, waiting for slower ranks included.
  void set_exchange_timeout(absl::Duration timeout);
  // One optimizer update. `wants_stop` is told to all ranks. An error is final: the ranks no longer
  // agree, and the trainer is of no more use.
  absl::StatusOr<StepResult> RunStep(bool wants_stop);
  // On the held-out part, the same for any number of ranks; nothing when there is none.
  absl::StatusOr<std::optional<TaskMetrics>> Evaluate();
  // For a checkpoint: rank 0 gets them, the others, which call it too, nothing.
  absl::StatusOr<HostMoments> GatherMoments();
  // Each rank gives a value and gets those of all ranks.
  absl::StatusOr<std::vector<double>> ShareWithRanks(double value);

  [[nodiscard]] int64_t step() const { return step_; }  // finished steps
  [[nodiscard]] int64_t skipped_steps() const { return step_ - optimizer_->updates(); }
  [[nodiscard]] const Model& model() const { return *model_; }
  [[nodiscard]] kernels::Stream& stream() { return *stream_; }
  // How many passes were replayed instead of being run op by op.
  [[nodiscard]] int64_t replayed_passes() const {
    return captured_passes_ ? captured_passes_->replays() : 0;
  }
  // What a checkpoint holds, of the sum type. After writing to these tensors call ResumeAt.
  [[nodiscard]] const ParameterBlock& weights() const { return *weights_; }
  [[nodiscard]] const Optimizer& optimizer() const { return *optimizer_; }
  absl::Status ResumeAt(int64_t step, int64_t skipped_steps);

 private:
  Trainer(const TrainConfig& config, const SampleSource& data, const RankPlace& place);
  absl::Status Allocate(const SampleSource& data);
  // Adds the gradient of a shard's mean loss (its part of the step's) to its block.
  absl::Status RunShard(int64_t shard);
  absl::Status EvaluateShard(int64_t shard);
  // A pass of this rank's shard `local_shard`, the one that begins with its row `row`, on what the
  // loader has loaded.
  absl::Status RunPass(const Pass& pass, int64_t local_shard, int64_t row,
                       const ParameterBlock& gradients);
  // Before the passes of a shard.
  void BeginSums();
  // Where a pass of the shard leaves its results.
  [[nodiscard]] SampleResults ResultsOf(int64_t pass) const;
  // Adds up the results of the first `passes` passes: waits for them, so that a GPU is waited for
  // once a shard.
  absl::Status AddResults(int64_t passes);
  // Makes the sums the shard's in values_.
  void SetSums(int64_t shard);
  // Of all shards' sums, added in their order.
  [[nodiscard]] TaskMetrics MetricsOfSums(int64_t samples) const;
  [[nodiscard]] bool shares_optimizer() const {
    return config_.sharded_optimizer && place_.ranks > 1;
  }
  [[nodiscard]] ElementRange PartOf(int rank) const {
    return ElementsOfRank(model_->layout().block_count(), rank, place_.ranks);
  }
  // Makes what is enqueued on stream_ be done, and then every rank's `tensor` that of rank `root`.
  absl::Status Broadcast(kernels::Tensor tensor, int root);
  // Gives each rank the weights that the others have updated.
  absl::Status ShareWeights();
  absl::StatusOr<std::string> GatherMoment(const kernels::Tensor& own);
  // Whether the model reads other weights than the optimizer updates, rounded from those.
  [[nodiscard]] bool reads_rounded() const;
  absl::Status RoundWeights();
  // Queues the exchange of values_.
  void PostValues();
  // Where in values_ the ranks' own begin.
  [[nodiscard]] int64_t rank_values() const {
    return static_cast<int64_t>(sums_.size()) * config_.batch.shards;
  }

  const TrainConfig config_;
  const RankPlace place_;
  const SampleOrder order_;
  const ShardRange shards_;  // of this rank
  const int64_t validation_sequences_;
  const int64_t targets_per_sample_;
  std::unique_ptr<const Model> model_;
  std::unique_ptr<kernels::Stream> stream_;
  Scratch scratch_;
  std::optional<ParameterBlock> weights_;        // of the sum type: what the optimizer updates
  std::optional<ParameterBlock> model_weights_;  // of the compute type: what the model reads
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<BatchLoader> loader_;
  std::unique_ptr<ModelActivations> activations_;
  std::optional<CapturedPasses> captured_passes_;  // none where passes of steps differ
  kernels::Tensor pass_sums_;                      // f64 [passes, 2] of a shard: losses, right
  SampleResults results_;                          // of the passes of a shard, one after the other
  std::optional<StepMetrics> counted_;             // by the model's parts, in the passes of a shard
  std::vector<double> sums_;                       // of a shard, as MetricsOf takes them
  // Each sum of all shards, one after the other; then one value for each rank.
  std::optional<SharedValues> values_;
  std::unique_ptr<kernels::Stream> exchange_stream_;  // of the exchange thread
  ExchangeThread exchange_thread_;
  std::unique_ptr<GradientReducer> reducer_;
  absl::Duration exchange_timeout_ = place_.exchange_timeout;
  int64_t step_ = 0;
};

}  // namespace weft::worker
