#include "worker/train/trainer.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "worker/model/initial_weights.h"
#include "worker/model/sliced_language_model.h"

namespace weft::worker {
namespace {

absl::Status CheckFit(const TrainConfig& config, const SampleSource& data, const RankPlace& place) {
  if (place.rank < 0 || place.rank >= place.ranks || place.ranks > config.batch.shards) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", place.rank, " of ", place.ranks,
                                                   ": a step has ", config.batch.shards,
                                                   " shards and every rank needs one"));
  }
  const SampleShape& sample = data.shape();
  if (sample.target_kind != TargetKind::kEachPosition || sample.rows != 1 || sample.padded) {
    return absl::InvalidArgumentError(
        absl::StrCat("a language model needs a target at each position of one unpadded row; ",
                     data.Describe(), " is not of that kind"));
  }
  if (sample.sequence != config.batch.sequence_length) {
    return absl::InvalidArgumentError(absl::StrCat("the data is cut into sequences of ",
                                                   sample.sequence, ", not of ",
                                                   config.batch.sequence_length));
  }
  if (const int32_t needed = std::max(sample.vocabulary, sample.classes);
      needed > config.model.vocabulary) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the data has a vocabulary of ", needed, ", the model only of ", config.model.vocabulary));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const Model>> NewModelOf(const TrainConfig& config) {
  if (config.slice_length == 0) return NewModel(config.model);
  return SlicedLanguageModel::Create(config.model, {.slice_length = config.slice_length});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const TrainConfig& config,
                                                         const SampleSource& data,
                                                         const RankPlace& place) {
  WEFT_RETURN_IF_ERROR(Validate(config));
  WEFT_RETURN_IF_ERROR(CheckFit(config, data, place));
  auto trainer = absl::WrapUnique(new Trainer(config, data, place));
  WEFT_RETURN_IF_ERROR(trainer->Allocate(data));
  return trainer;
}

Trainer::Trainer(const TrainConfig& config, const SampleSource& data, const RankPlace& place)
    : config_(config),
      place_(place),
      order_({.kind = config.data.order,
              .seed = config.seed,
              .sample_count = data.sample_count(Split::kTrain),
              .shards = config.batch.shards,
              .samples_per_shard = config.batch.sequences_per_shard()}),
      shards_(ShardsOfRank(config.batch.shards, place.rank, place.ranks)),
      validation_sequences_(
          std::min(config.evaluation.sequences, data.sample_count(Split::kValidation))),
      scratch_(place.device) {}

absl::Status Trainer::Allocate(const SampleSource& data) {
  kernels::Device& device = place_.device;
  const kernels::DType dtype = device.compute_dtype();
  const PassShape shape = {.batch = config_.batch.micro_batch,
                           .tokens = config_.batch.sequence_length};
  WEFT_ASSIGN_OR_RETURN(model_, NewModelOf(config_));
  WEFT_RETURN_IF_ERROR(model_->Supports(device, shape));
  const ParameterLayout& layout = model_->layout();
  WEFT_ASSIGN_OR_RETURN(stream_, device.NewStream());
  WEFT_ASSIGN_OR_RETURN(exchange_stream_, device.NewStream());
  WEFT_ASSIGN_OR_RETURN(kernels::Tensor block,
                        kernels::NewTensor(device, dtype, {layout.block_count()}));
  weights_.emplace(layout, std::move(block));
  WEFT_RETURN_IF_ERROR(InitialiseWeights(config_.seed, *stream_, *weights_));
  WEFT_ASSIGN_OR_RETURN(optimizer_,
                        Optimizer::Create(device, layout, config_.optimizer, config_.clip_norm));
  WEFT_ASSIGN_OR_RETURN(loader_, BatchLoader::Create(device, data, shape));
  WEFT_ASSIGN_OR_RETURN(activations_, model_->NewActivations(device, shape));
  for (kernels::Tensor* tensor : {&results_.losses, &results_.right}) {
    WEFT_ASSIGN_OR_RETURN(*tensor, kernels::NewTensor(device, dtype, {shape.batch, shape.tokens}));
  }
  WEFT_ASSIGN_OR_RETURN(values_, SharedValues::Create(device, config_.batch.shards + place_.ranks));
  WEFT_ASSIGN_OR_RETURN(
      reducer_, GradientReducer::Create(device, place_.exchange, exchange_thread_, place_.clock,
                                        {.elements = layout.block_count(),
                                         .shards = config_.batch.shards,
                                         .local_shards = shards_.count(),
                                         .timeout = place_.exchange_timeout}));
  return absl::OkStatus();
}

absl::StatusOr<StepResult> Trainer::RunStep(bool wants_stop) {
  place_.time.Switch(TimeCause::kCompute);
  values_->Clear();
  WEFT_RETURN_IF_ERROR(reducer_->Begin(*stream_));
  for (int64_t shard = shards_.first; shard < shards_.last; ++shard) {
    WEFT_ASSIGN_OR_RETURN(const double loss, RunShard(shard));  // hands buckets over at its end
    values_->Set(shard, loss);
  }
  values_->Set(config_.batch.shards + place_.rank, wants_stop ? 1.0 : 0.0);
  PostValues();

  place_.time.Switch(TimeCause::kExchange);
  WEFT_RETURN_IF_ERROR(reducer_->Finish());

  place_.time.Switch(TimeCause::kCompute);
  const double rate = LearningRateAt(config_.learning_rate, step_ + 1);
  WEFT_ASSIGN_OR_RETURN(
      const Optimizer::Outcome update,
      optimizer_->Step(*stream_, reducer_->mean(), rate, Beta1At(config_, step_ + 1), *weights_));
  ++step_;
  const int64_t shards = config_.batch.shards;
  return StepResult{.step = step_,
                    .loss = values_->Sum(0, shards) / static_cast<double>(config_.batch.tokens()),
                    .gradient_norm = update.gradient_norm,
                    .learning_rate = rate,
                    .skipped = !update.applied,
                    .stop_requested = values_->Sum(shards, shards + place_.ranks) > 0};
}

absl::StatusOr<double> Trainer::RunShard(int64_t shard) {
  const BatchConfig& batch = config_.batch;
  const ParameterBlock gradients(model_->layout(), reducer_->shard_gradient(shard - shards_.first));
  Pass pass{.stream = *stream_,
            .scratch = scratch_,
            .weights = *weights_,
            .draws = {.seed = config_.seed, .step = step_, .training = true},
            .step_sequences = batch.sequences};
  const double gradient_scale = 1.0 / static_cast<double>(batch.tokens());
  std::vector<int64_t> samples(static_cast<size_t>(batch.micro_batch));
  double loss = 0;
  for (int64_t row = 0; row < batch.sequences_per_shard(); row += batch.micro_batch) {
    place_.time.Switch(TimeCause::kData);
    for (int64_t i = 0; i < batch.micro_batch; ++i) {
      samples[static_cast<size_t>(i)] = order_.Sample(step_, shard, row + i);
    }
    WEFT_RETURN_IF_ERROR(loader_->Load(*stream_, Split::kTrain, samples));
    place_.time.Switch(TimeCause::kCompute);
    pass.draws.first_sequence = shard * batch.sequences_per_shard() + row;
    const bool is_last =
        shard + 1 == shards_.last && row + batch.micro_batch == batch.sequences_per_shard();
    WEFT_RETURN_IF_ERROR(model_->LossesAndGradients(pass, loader_->batch(), gradient_scale,
                                                    gradients, *activations_, results_,
                                                    [&](int64_t first) {
                                                      if (is_last) reducer_->Ready(first);
                                                    }));
    WEFT_ASSIGN_OR_RETURN(const double part, SumOfLosses());
    loss += part;
  }
  return loss;
}

absl::StatusOr<std::optional<double>> Trainer::Evaluate() {
  if (validation_sequences_ == 0) return std::nullopt;
  const TimeCause before = place_.time.Switch(TimeCause::kEvaluation);
  values_->Clear();
  for (int64_t shard = shards_.first; shard < shards_.last; ++shard) {
    WEFT_ASSIGN_OR_RETURN(const double loss, EvaluateShard(shard, validation_sequences_));
    values_->Set(shard, loss);
  }
  PostValues();
  WEFT_RETURN_IF_ERROR(exchange_thread_.Drain());
  place_.time.Switch(before);
  const int64_t tokens = validation_sequences_ * config_.batch.sequence_length;
  return values_->Sum(0, config_.batch.shards) / static_cast<double>(tokens);
}

absl::StatusOr<double> Trainer::EvaluateShard(int64_t shard, int64_t sequences) {
  const SampleRange range = ValidationSamples(sequences, config_.batch.shards, shard);
  // Every evaluation makes the same draws: losses differ by the weights alone.
  Pass pass{.stream = *stream_,
            .scratch = scratch_,
            .weights = *weights_,
            .draws = {.seed = config_.seed},
            .step_sequences = sequences};
  std::vector<int64_t> samples;
  double loss = 0;
  for (int64_t first = range.first; first < range.last; first += config_.batch.micro_batch) {
    samples.clear();
    const int64_t last = std::min(first + config_.batch.micro_batch, range.last);
    for (int64_t sample = first; sample < last; ++sample) samples.push_back(sample);
    WEFT_RETURN_IF_ERROR(loader_->Load(*stream_, Split::kValidation, samples));
    pass.draws.first_sequence = first;
    WEFT_RETURN_IF_ERROR(model_->Losses(pass, loader_->batch(), *activations_, results_));
    WEFT_ASSIGN_OR_RETURN(const double part, SumOfLosses());
    loss += part;
  }
  return loss;
}

absl::StatusOr<double> Trainer::SumOfLosses() {
  const auto count = static_cast<size_t>(results_.losses.count());
  std::vector<double> values(count);
  if (results_.losses.dtype() == kernels::DType::kF64) {
    WEFT_RETURN_IF_ERROR(place_.device.CopyToHost(values.data(), results_.losses, *stream_));
  } else {
    std::vector<float> narrow(count);
    WEFT_RETURN_IF_ERROR(place_.device.CopyToHost(narrow.data(), results_.losses, *stream_));
    std::copy(narrow.begin(), narrow.end(), values.begin());
  }
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

void Trainer::PostValues() {
  exchange_thread_.Post([this, timeout = exchange_timeout_] {
    return values_->Share(place_.exchange, *exchange_stream_, place_.clock.Now() + timeout);
  });
}

void Trainer::set_exchange_timeout(absl::Duration timeout) {
  exchange_timeout_ = timeout;
  reducer_->set_timeout(timeout);
}

absl::StatusOr<std::vector<double>> Trainer::ShareWithRanks(double value) {
  const int64_t shards = config_.batch.shards;
  values_->Clear();
  values_->Set(shards + place_.rank, value);
  PostValues();
  WEFT_RETURN_IF_ERROR(exchange_thread_.Drain());
  std::vector<double> all;
  for (int64_t rank = 0; rank < place_.ranks; ++rank) all.push_back(values_->Get(shards + rank));
  return all;
}

void Trainer::ResumeAt(int64_t step, int64_t skipped_steps) {
  WEFT_CHECK(step >= skipped_steps && skipped_steps >= 0);
  step_ = step;
  optimizer_->set_updates(step - skipped_steps);
}

}  // namespace weft::worker
