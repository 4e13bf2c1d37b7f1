#include "worker/rank/config_from_spec.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
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
    default:
      return Schedule::kCosine;
  }
}

}  // namespace

ModelConfig ModelFromSpec(const v1::ModelSpec& spec) {
  ModelConfig model;
  model.vocabulary = spec.vocab_size();
  model.width = spec.width();
  model.hidden = spec.mlp_width();
  model.norm_epsilon = spec.norm_epsilon();
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
                          .total_steps = training.steps()};
  config.clip_norm = training.clip_norm();
  config.evaluation = {.every_steps = resolved.evaluation().every_steps(),
                       .sequences = resolved.evaluation().sequences()};
  config.checkpoint = {.every_steps = resolved.checkpoint().every_steps()};
  WEFT_RETURN_IF_ERROR(Validate(config));
  return config;
}

}  // namespace weft::worker
