#include "worker/train/trainer.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "kernels/device/host_values.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/sum/sum.h"
#include "worker/model/initial_weights.h"
#include "worker/model/sliced_language_model.h"

namespace weft::worker {
namespace {

// That the model takes the samples in and gives what their targets ask for.
absl::Status CheckSamples(const TrainConfig& config, const SampleSource& data) {
  const SampleShape& sample = data.shape();
  const ModelConfig& model = config.model;
  const bool one_target = sample.target_kind == TargetKind::kSample;
  if (one_target != HasOneTarget(model) || sample.rows != RowsPerSample(model)) {
    const auto kind = [](int64_t rows, bool one) {
      return absl::StrCat(rows == 2 ? "pairs of sequences" : "sequences", " with ",
                          one ? "one label each" : "a target at each position");
    };
    return absl::InvalidArgumentError(
        absl::StrCat("the model is for ", kind(RowsPerSample(model), HasOneTarget(model)),
                     ", the data has ", kind(sample.rows, one_target), ": ", data.Describe()));
  }
  if (sample.padded && (!model.padded || model.kind == ModelKind::kLanguageModel)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model takes no padding, which ", data.Describe(), " has"));
  }
  if (sample.sequence != config.batch.sequence_length) {
    return absl::InvalidArgumentError(absl::StrCat("the data is cut into sequences of ",
                                                   sample.sequence, ", not of ",
                                                   config.batch.sequence_length));
  }
  if (sample.vocabulary > model.vocabulary) {
    return absl::InvalidArgumentError(absl::StrCat("the data has a vocabulary of ",
                                                   sample.vocabulary, ", the model only of ",
                                                   model.vocabulary));
  }
  if (sample.classes > ClassesOf(model)) {
    return absl::InvalidArgumentError(absl::StrCat("the data has ", sample.classes,
                                                   " classes, the model only ", ClassesOf(model)));
  }
  return absl::OkStatus();
}

absl::Status CheckFit(const TrainConfig& config, const SampleSource& data, const RankPlace& place) {
  if (place.rank < 0 || place.rank >= place.ranks || place.ranks > config.batch.shards) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", place.rank, " of ", place.ranks,
                                                   ": a step has ", config.batch.shards,
                                                   " shards and every rank needs one"));
  }
  return CheckSamples(config, data);
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
      targets_per_sample_(data.shape().real_target_count()),
      scratch_(place.device) {}

absl::Status Trainer::Allocate(const SampleSource& data) {
  kernels::Device& device = place_.device;
  const kernels::DType dtype = device.sum_dtype();
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
  model_weights_ = weights_;
  if (reads_rounded()) {
    WEFT_ASSIGN_OR_RETURN(
        kernels::Tensor rounded,
        kernels::NewTensor(device, device.compute_dtype(), {layout.block_count()}));
    model_weights_.emplace(layout, std::move(rounded));
  }
  if (place_.draws_weights) {
    WEFT_RETURN_IF_ERROR(InitialiseWeights(config_.seed, *stream_, *weights_));
    if (reads_rounded()) WEFT_RETURN_IF_ERROR(RoundWeights());
  }
  WEFT_ASSIGN_OR_RETURN(
      optimizer_,
      Optimizer::Create(device, layout, config_.optimizer, config_.clip_norm,
                        shares_optimizer() ? std::optional(PartOf(place_.rank)) : std::nullopt));
  WEFT_ASSIGN_OR_RETURN(loader_, BatchLoader::Create(device, data, shape.batch));
  WEFT_ASSIGN_OR_RETURN(activations_, model_->NewActivations(device, shape));
  const int64_t passes = config_.batch.sequences_per_shard() / shape.batch;
  for (kernels::Tensor* tensor : {&results_.losses, &results_.right}) {
    WEFT_ASSIGN_OR_RETURN(
        *tensor, kernels::NewTensor(device, dtype, {passes * loader_->batch().targets.count()}));
  }
  WEFT_ASSIGN_OR_RETURN(pass_sums_, kernels::NewTensor(device, kernels::DType::kF64, {2 * passes}));
  counted_.emplace(model_->metrics());
  // What is counted is read by the host after each pass. With slices, passes are long, and launches
  // do not show.
  if (place_.captures_passes && !HasDraws(config_.model) && counted_->names().empty() &&
      config_.slice_length == 0) {
    captured_passes_.emplace(*stream_, scratch_);
  }
  sums_.resize(SumsOf(counted_->names()));
  WEFT_ASSIGN_OR_RETURN(values_, SharedValues::Create(device, rank_values() + place_.ranks));
  WEFT_ASSIGN_OR_RETURN(
      reducer_, GradientReducer::Create(device, place_.exchange, exchange_thread_, place_.clock,
                                        {.elements = layout.block_count(),
                                         .shards = config_.batch.shards,
                                         .local_shards = shards_.count(),
                                         .reproducibility = config_.reproducibility,
                                         .timeout = place_.exchange_timeout}));
  return absl::OkStatus();
}

absl::StatusOr<StepResult> Trainer::RunStep(bool wants_stop) {
  place_.time.Switch(TimeCause::kCompute);
  values_->Clear();
  WEFT_RETURN_IF_ERROR(reducer_->Begin(*stream_));
  for (int64_t shard = shards_.first; shard < shards_.last; ++shard) {
    WEFT_RETURN_IF_ERROR(RunShard(shard));  // hands buckets over at its end
  }
  place_.time.Switch(TimeCause::kExchange);
  WEFT_RETURN_IF_ERROR(reducer_->Finish());

  place_.time.Switch(TimeCause::kCompute);
  values_->Set(rank_values() + place_.rank, wants_stop ? 1.0 : 0.0);
  PostValues();  // while the device updates the weights
  const double rate = LearningRateAt(config_.learning_rate, step_ + 1);
  WEFT_ASSIGN_OR_RETURN(
      const Optimizer::Outcome update,
      optimizer_->Step(*stream_, reducer_->mean(), rate, Beta1At(config_, step_ + 1), *weights_,
                       reads_rounded() ? model_weights_->block() : kernels::Tensor()));
  if (shares_optimizer() && update.applied) WEFT_RETURN_IF_ERROR(ShareWeights());
  place_.time.Switch(TimeCause::kExchange);
  WEFT_RETURN_IF_ERROR(exchange_thread_.Drain());
  place_.time.Switch(TimeCause::kCompute);
  ++step_;
  TaskMetrics told = MetricsOfSums(config_.batch.sequences);
  return StepResult{
      .step = step_,
      .loss = told.loss,
      .metrics = std::move(told.metrics),
      .gradient_norm = update.gradient_norm,
      .learning_rate = rate,
      .skipped = !update.applied,
      .stop_requested = values_->Sum(rank_values(), rank_values() + place_.ranks) > 0};
}

absl::Status Trainer::RunShard(int64_t shard) {
  const BatchConfig& batch = config_.batch;
  const ParameterBlock gradients(model_->layout(), reducer_->shard_gradient(shard - shards_.first));
  Pass pass{.stream = *stream_,
            .scratch = scratch_,
            .weights = *model_weights_,
            .draws = {.seed = config_.seed, .step = step_, .training = true},
            .step_sequences = batch.sequences,
            .metrics = &*counted_};
  std::vector<int64_t> samples(static_cast<size_t>(batch.micro_batch));
  BeginSums();
  for (int64_t row = 0; row < batch.sequences_per_shard(); row += batch.micro_batch) {
    place_.time.Switch(TimeCause::kData);
    for (int64_t i = 0; i < batch.micro_batch; ++i) {
      samples[static_cast<size_t>(i)] = order_.Sample(step_, shard, row + i);
    }
    WEFT_RETURN_IF_ERROR(loader_->Load(*stream_, Split::kTrain, samples));
    place_.time.Switch(TimeCause::kCompute);
    pass.draws.first_sequence = shard * batch.sequences_per_shard() + row;
    WEFT_RETURN_IF_ERROR(RunPass(pass, shard - shards_.first, row, gradients));
    WEFT_RETURN_IF_ERROR(counted_->Collect(*stream_, batch.micro_batch, batch.micro_batch));
  }
  WEFT_RETURN_IF_ERROR(AddResults(batch.sequences_per_shard() / batch.micro_batch));
  sums_[kAddedLoss] = counted_->loss_part();  // in training only: an evaluation tells of the data
  SetSums(shard);
  return absl::OkStatus();
}

absl::Status Trainer::RunPass(const Pass& pass, int64_t local_shard, int64_t row,
                              const ParameterBlock& gradients) {
  const BatchConfig& batch = config_.batch;
  const double gradient_scale = 1.0 / static_cast<double>(batch.sequences * targets_per_sample_);
  const bool is_last =
      local_shard + 1 == shards_.count() && row + batch.micro_batch == batch.sequences_per_shard();
  absl::Status handed_over;
  SampleResults results = ResultsOf(row / batch.micro_batch);
  const auto run = [&] {
    return model_->LossesAndGradients(pass, loader_->batch(), gradient_scale, gradients,
                                      *activations_, results, [&](int64_t first) {
                                        if (is_last)
                                          handed_over.Update(reducer_->Ready(*stream_, first));
                                      });
  };
  // The last pass hands over on the way what other ranks wait for.
  const bool hands_over = is_last && batch.shards > 1;
  const int64_t index = (local_shard * batch.sequences_per_shard() + row) / batch.micro_batch;
  WEFT_RETURN_IF_ERROR(captured_passes_ && !hands_over
                           ? captured_passes_->Run(static_cast<size_t>(index), run)
                           : run());
  return handed_over;
}

absl::StatusOr<std::optional<TaskMetrics>> Trainer::Evaluate() {
  if (validation_sequences_ == 0) return std::nullopt;
  const TimeCause before = place_.time.Switch(TimeCause::kEvaluation);
  values_->Clear();
  for (int64_t shard = shards_.first; shard < shards_.last; ++shard) {
    WEFT_RETURN_IF_ERROR(EvaluateShard(shard));
  }
  PostValues();
  WEFT_RETURN_IF_ERROR(exchange_thread_.Drain());
  place_.time.Switch(before);
  return MetricsOfSums(validation_sequences_);
}

absl::Status Trainer::EvaluateShard(int64_t shard) {
  const SampleRange range = ValidationSamples(validation_sequences_, config_.batch.shards, shard);
  // Every evaluation makes the same draws: losses differ by the weights alone.
  Pass pass{.stream = *stream_,
            .scratch = scratch_,
            .weights = *model_weights_,
            .draws = {.seed = config_.seed},
            .step_sequences = validation_sequences_,
            .metrics = &*counted_};
  std::vector<int64_t> samples;
  BeginSums();
  for (int64_t first = range.first; first < range.last; first += config_.batch.micro_batch) {
    samples.clear();
    const int64_t last = std::min(first + config_.batch.micro_batch, range.last);
    for (int64_t sample = first; sample < last; ++sample) samples.push_back(sample);
    WEFT_RETURN_IF_ERROR(loader_->Load(*stream_, Split::kValidation, samples));
    pass.draws.first_sequence = first;
    SampleResults results = ResultsOf(0);
    WEFT_RETURN_IF_ERROR(model_->Losses(pass, loader_->batch(), *activations_, results));
    WEFT_RETURN_IF_ERROR(counted_->Collect(*stream_, last - first, config_.batch.micro_batch));
    WEFT_RETURN_IF_ERROR(AddResults(1));
  }
  SetSums(shard);
  return absl::OkStatus();
}

void Trainer::BeginSums() {
  counted_->Clear();
  std::fill(sums_.begin(), sums_.end(), 0.0);
}

SampleResults Trainer::ResultsOf(int64_t pass) const {
  const kernels::Shape& shape = loader_->batch().targets.shape();
  const auto part = [&](const kernels::Tensor& all) {
    return all.Part(pass * shape.count(), shape);
  };
  return {.losses = part(results_.losses), .right = part(results_.right)};
}

absl::Status Trainer::AddResults(int64_t passes) {
  for (int64_t pass = 0; pass < passes; ++pass) {
    const SampleResults results = ResultsOf(pass);
    kernels::Tensor loss = pass_sums_.Part(2 * pass, {1});
    kernels::Tensor right = pass_sums_.Part(2 * pass + 1, {1});
    WEFT_RETURN_IF_ERROR(kernels::Sum(*stream_, results.losses, loss));
    WEFT_RETURN_IF_ERROR(kernels::Sum(*stream_, results.right, right));
  }
  WEFT_ASSIGN_OR_RETURN(const std::vector<double> sums,
                        kernels::ReadValues(pass_sums_.Part(0, {2 * passes}), *stream_));
  double loss = 0;
  double right = 0;
  for (size_t i = 0; i < sums.size(); i += 2) {
    loss += sums[i];
    right += sums[i + 1];
  }
  sums_[kLossSum] += loss;
  sums_[kRightSum] += right;
  return absl::OkStatus();
}

void Trainer::SetSums(int64_t shard) {
  for (size_t i = 0; i < counted_->sums().size(); ++i) {
    sums_[kCountedSums + 2 * i] = counted_->sums()[i].sum;
    sums_[kCountedSums + 2 * i + 1] = counted_->sums()[i].count;
  }
  for (size_t i = 0; i < sums_.size(); ++i) {
    values_->Set(static_cast<int64_t>(i) * config_.batch.shards + shard, sums_[i]);
  }
}

TaskMetrics Trainer::MetricsOfSums(int64_t samples) const {
  const int64_t shards = config_.batch.shards;
  std::vector<double> sums;
  for (int64_t first = 0; first < rank_values(); first += shards) {
    sums.push_back(values_->Sum(first, first + shards));
  }
  return MetricsOf(sums, static_cast<double>(samples * targets_per_sample_), config_.loss_form,
                   counted_->names());
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
  const int64_t first = rank_values();
  values_->Clear();
  values_->Set(first + place_.rank, value);
  PostValues();
  WEFT_RETURN_IF_ERROR(exchange_thread_.Drain());
  std::vector<double> all;
  for (int64_t rank = 0; rank < place_.ranks; ++rank) all.push_back(values_->Get(first + rank));
  return all;
}

absl::Status Trainer::Broadcast(kernels::Tensor tensor, int root) {
  WEFT_RETURN_IF_ERROR(stream_->Synchronize());
  exchange_thread_.Post([this, root, tensor = std::move(tensor)]() mutable {
    return place_.exchange.Broadcast(tensor, root, place_.clock.Now() + exchange_timeout_);
  });
  return exchange_thread_.Drain();
}

absl::Status Trainer::ShareWeights() {
  const TimeCause before = place_.time.Switch(TimeCause::kExchange);
  for (int rank = 0; rank < place_.ranks; ++rank) {
    const ElementRange part = PartOf(rank);
    WEFT_RETURN_IF_ERROR(Broadcast(weights_->block().Part(part.first, {part.count}), rank));
  }
  place_.time.Switch(before);
  return reads_rounded() ? RoundWeights() : absl::OkStatus();
}

absl::StatusOr<HostMoments> Trainer::GatherMoments() {
  HostMoments moments;
  WEFT_ASSIGN_OR_RETURN(moments.first, GatherMoment(optimizer_->first_moment()));
  WEFT_ASSIGN_OR_RETURN(moments.second, GatherMoment(optimizer_->second_moment()));
  return moments;
}

absl::StatusOr<std::string> Trainer::GatherMoment(const kernels::Tensor& own) {
  std::string bytes;
  const int64_t size = kernels::SizeOf(own.dtype());
  if (place_.rank == 0) {
    bytes.resize(static_cast<size_t>(model_->layout().block_count() * size));
  }
  if (!shares_optimizer()) {
    if (place_.rank != 0) return bytes;
    WEFT_RETURN_IF_ERROR(place_.device.CopyToHost(bytes.data(), own, *stream_));
    return bytes;
  }
  for (int rank = 0; rank < place_.ranks; ++rank) {
    const ElementRange part = PartOf(rank);
    kernels::Tensor theirs = own;
    if (rank != place_.rank) {
      WEFT_ASSIGN_OR_RETURN(theirs, kernels::NewTensor(place_.device, own.dtype(), {part.count}));
    }
    WEFT_RETURN_IF_ERROR(Broadcast(theirs, rank));
    if (place_.rank != 0) continue;
    WEFT_RETURN_IF_ERROR(
        place_.device.CopyToHost(bytes.data() + part.first * size, theirs, *stream_));
  }
  return bytes;
}

bool Trainer::reads_rounded() const {
  return place_.device.compute_dtype() != place_.device.sum_dtype();
}

absl::Status Trainer::RoundWeights() {
  kernels::Tensor rounded = model_weights_->block();
  return kernels::Convert(*stream_, weights_->block(), rounded);
}

absl::Status Trainer::ResumeAt(int64_t step, int64_t skipped_steps) {
  WEFT_CHECK(step >= skipped_steps && skipped_steps >= 0);
  step_ = step;
  optimizer_->set_updates(step - skipped_steps);
  return reads_rounded() ? RoundWeights() : absl::OkStatus();
}

}  // namespace weft::worker
