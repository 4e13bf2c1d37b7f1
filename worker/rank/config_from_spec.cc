#include "worker/rank/config_from_spec.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "proto/spec/data_facts.h"
#include "proto/spec/resolve.h"
#include "worker/rank/data_from_spec.h"
#include "worker/rank/mixer_from_spec.h"

namespace weft::worker {
namespace {

Schedule ScheduleFromSpec(v1::LearningRateSpec::Schedule schedule) {
  switch (schedule) {
    case v1::LearningRateSpec::SCHEDULE_CONSTANT:
      return Schedule::kConstant;
    case v1::LearningRateSpec::SCHEDULE_LINEAR:
      return Schedule::kLinear;
    case v1::LearningRateSpec::SCHEDULE_INVERSE_SQRT:
      return Schedule::kInverseSqrt;
    case v1::LearningRateSpec::SCHEDULE_ONE_CYCLE:
      return Schedule::kOneCycle;
    case v1::LearningRateSpec::SCHEDULE_STEP:
      return Schedule::kStep;
    default:
      return Schedule::kCosine;
  }
}

MlpKind MlpFromSpec(v1::ModelSpec::Mlp mlp) {
  switch (mlp) {
    case v1::ModelSpec::MLP_GEGLU:
      return MlpKind::kGeglu;
    case v1::ModelSpec::MLP_GELU:
      return MlpKind::kGelu;
    case v1::ModelSpec::MLP_GELU_TANH:
      return MlpKind::kGeluTanh;
    default:
      return MlpKind::kSwiglu;
  }
}

PositionKind PositionsFromSpec(v1::ModelSpec::Positions positions) {
  switch (positions) {
    case v1::ModelSpec::POSITIONS_SINUSOIDAL:
      return PositionKind::kSinusoidal;
    case v1::ModelSpec::POSITIONS_SINUSOIDAL_CONCATENATED:
      return PositionKind::kSinusoidalConcatenated;
    case v1::ModelSpec::POSITIONS_LEARNED:
      return PositionKind::kLearned;
    default:
      return PositionKind::kNone;
  }
}

WeightScheme WeightsFromSpec(v1::ModelSpec::Initialisation initialisation) {
  switch (initialisation) {
    case v1::ModelSpec::INITIALISATION_TORCH:
      return WeightScheme::kTorch;
    case v1::ModelSpec::INITIALISATION_LECUN:
      return WeightScheme::kLecun;
    case v1::ModelSpec::INITIALISATION_XAVIER_UNIFORM:
      return WeightScheme::kXavierUniform;
    default:
      return WeightScheme::kNormal;
  }
}

// How blocks and their surroundings are built.
void StyleFromSpec(const v1::ModelSpec& spec, ModelConfig& model) {
  model.norm = spec.norm() == v1::ModelSpec::NORM_LAYER ? NormKind::kLayer : NormKind::kRms;
  model.norm_placement = spec.norm_placement() == v1::ModelSpec::NORM_PLACEMENT_OUTPUT
                             ? NormPlacement::kOutput
                             : NormPlacement::kInput;
  model.final_norm = spec.final_norm();
  model.mlp = MlpFromSpec(spec.mlp());
  model.positions = PositionsFromSpec(spec.positions());
  model.max_positions = spec.max_positions();
  model.tied = spec.tied_embeddings();
  model.biases = {.projections = spec.biases().projections(),
                  .output = spec.biases().output(),
                  .mlp = spec.biases().mlp(),
                  .logits = spec.biases().logits()};
  model.output_projection = spec.output_projection();
  model.dropout = {.embedding = spec.dropout().embedding(),
                   .attention = spec.dropout().attention(),
                   .sublayer = spec.dropout().sublayer(),
                   .mlp_hidden = spec.dropout().mlp_hidden()};
  model.weights = WeightsFromSpec(spec.initialisation());
  if (spec.has_embedding_deviation()) model.embedding_deviation = spec.embedding_deviation();
}

ModelKind KindFromSpec(v1::ModelSpec::Kind kind) {
  switch (kind) {
    case v1::ModelSpec::KIND_TOKEN_CLASSIFIER:
      return ModelKind::kTokenClassifier;
    case v1::ModelSpec::KIND_CLASSIFIER:
      return ModelKind::kClassifier;
    case v1::ModelSpec::KIND_TWO_TOWER:
      return ModelKind::kTwoTower;
    default:
      return ModelKind::kLanguageModel;
  }
}

// What the model makes of its tokens.
void HeadFromSpec(const v1::ModelSpec& spec, ModelConfig& model) {
  model.kind = KindFromSpec(spec.kind());
  model.classes = spec.classes();
  model.pooling = spec.pooling() == v1::ModelSpec::POOLING_LEADING_TOKEN ? Pooling::kLeadingToken
                                                                         : Pooling::kMean;
  model.head_hidden = spec.head_width();
  model.pair_products = spec.pair_products();
}

LossForm LossFormOf(const spec::DataFacts& data) {
  if (data.is_bytes) return LossForm::kBitsPerByte;
  return data.classes > 0 ? LossForm::kNone : LossForm::kPerplexity;
}

}  // namespace

ModelConfig ModelFromSpec(const v1::ModelSpec& spec) {
  ModelConfig model;
  model.vocabulary = spec.vocab_size();
  model.width = spec.width();
  model.hidden = spec.mlp_width();
  model.norm_epsilon = spec.norm_epsilon();
  StyleFromSpec(spec, model);
  HeadFromSpec(spec, model);
  for (int layer = 0; layer < spec.layers(); ++layer) {
    model.layers.push_back(MixerFromSpec(spec.mixers(layer % spec.mixers_size())));
  }
  for (const v1::MixerOverride& exception : spec.overrides()) {
    for (const int32_t layer : exception.layers()) {
      model.layers[static_cast<size_t>(layer)] = MixerFromSpec(exception.mixer());
    }
  }
  return model;
}

absl::StatusOr<TrainConfig> ConfigFromSpec(const v1::JobSpec& spec, absl::string_view data_root) {
  v1::JobSpec resolved = spec;
  WEFT_RETURN_IF_ERROR(spec::ToStatus(spec::ResolveSpec(resolved)));
  const v1::TrainingSpec& training = resolved.training();
  const v1::OptimizerSpec& optimizer = training.optimizer();
  const v1::LearningRateSpec& rate = training.learning_rate();
  TrainConfig config;
  config.model = ModelFromSpec(resolved.model());
  const spec::DataFacts facts = spec::FactsOf(resolved.data());
  config.model.padded = facts.is_padded;
  config.loss_form = LossFormOf(facts);
  config.batch = {.sequences = training.batch_size(),
                  .sequence_length = training.sequence_length(),
                  .shards = training.shards(),
                  .micro_batch = training.micro_batch_size()};
  config.data = DataFromSpec(resolved.data(), data_root, resolved.model().vocab_size());
  config.steps = training.steps();
  config.seed = training.seed();
  config.optimizer = {.beta1 = optimizer.beta1(),
                      .beta2 = optimizer.beta2(),
                      .epsilon = optimizer.epsilon(),
                      .weight_decay = optimizer.weight_decay()};
  config.learning_rate = {.schedule = ScheduleFromSpec(rate.schedule()),
                          .peak = rate.peak(),
                          .final_ratio = rate.final_ratio(),
                          .warmup_steps = rate.warmup_steps(),
                          .total_steps = training.steps(),
                          .hold_steps = rate.hold_steps()};
  if (rate.has_initial_ratio()) config.learning_rate.initial_ratio = rate.initial_ratio();
  if (optimizer.has_beta1_at_peak()) config.optimizer.beta1_at_peak = optimizer.beta1_at_peak();
  config.clip_norm = training.clip_norm();
  if (training.reproducibility() == v1::REPRODUCIBILITY_FIXED_GANG) {
    config.reproducibility = Reproducibility::kFixedGang;
  }
  config.sharded_optimizer = resolved.memory().sharded_optimizer();
  config.slice_length = resolved.memory().slice_length();
  config.evaluation = {.every_steps = resolved.evaluation().every_steps(),
                       .sequences = resolved.evaluation().sequences()};
  config.checkpoint = {.every_steps = resolved.checkpoint().every_steps()};
  WEFT_RETURN_IF_ERROR(Validate(config));
  return config;
}

}  // namespace weft::worker
