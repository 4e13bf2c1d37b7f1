#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "proto/spec/sections.h"

namespace weft::spec {
namespace {

constexpr int32_t kMaxShards = 4096;

int32_t DefaultShards(int32_t batch_size) {
  int32_t shards = std::min(8, batch_size);
  while (batch_size % shards != 0) --shards;
  return shards;
}

void ResolveBatch(Rules& rules, v1::TrainingSpec& training) {
  if (training.batch_size() % training.shards() != 0) {
    rules.Report("training.batch_size",
                 absl::StrCat("must be divisible by training.shards (", training.shards(), "), is ",
                              training.batch_size()));
    return;
  }
  const int32_t shard = training.batch_size() / training.shards();
  if (!training.has_micro_batch_size()) training.set_micro_batch_size(shard);
  if (training.micro_batch_size() < 1 || shard % training.micro_batch_size() != 0) {
    rules.Report(
        "training.micro_batch_size",
        absl::StrCat("must divide the ", shard, " sequences of a shard (batch_size / shards), is ",
                     training.micro_batch_size()));
  }
}

void ResolveOptimizer(Rules& rules, v1::OptimizerSpec& optimizer) {
  if (!optimizer.has_beta1()) optimizer.set_beta1(0.9);
  if (!optimizer.has_beta2()) optimizer.set_beta2(0.95);
  if (!optimizer.has_epsilon()) optimizer.set_epsilon(1e-8);
  if (!optimizer.has_weight_decay()) optimizer.set_weight_decay(0.1);
  const auto beta = [&](absl::string_view field, double value) {
    if (!(value >= 0 && value < 1)) {
      rules.Report(field, absl::StrCat("must be at least 0 and below 1, is ", value));
    }
  };
  beta("training.optimizer.beta1", optimizer.beta1());
  beta("training.optimizer.beta2", optimizer.beta2());
  if (optimizer.has_beta1_at_peak()) {
    beta("training.optimizer.beta1_at_peak", optimizer.beta1_at_peak());
  }
  rules.Positive("training.optimizer.epsilon", optimizer.epsilon());
  rules.InRange("training.optimizer.weight_decay", optimizer.weight_decay(), 0.0, 100.0);
}

void ResolveInitialRatio(Rules& rules, const v1::LearningRateSpec& rate) {
  if (!rate.has_initial_ratio()) return;
  constexpr absl::string_view field = "training.learning_rate.initial_ratio";
  rules.InRange(field, rate.initial_ratio(), 0.0, 1.0);
  if (rate.warmup_steps() < 2 || rate.schedule() == v1::LearningRateSpec::SCHEDULE_ONE_CYCLE) {
    rules.Report(field, "needs a warm-up of at least two steps on a line");
  }
}

void ResolveHoldSteps(Rules& rules, v1::LearningRateSpec& rate, int64_t steps) {
  if (!rate.has_hold_steps()) rate.set_hold_steps(0);
  constexpr absl::string_view field = "training.learning_rate.hold_steps";
  if (rate.schedule() != v1::LearningRateSpec::SCHEDULE_STEP) {
    if (rate.hold_steps() != 0) rules.Report(field, "is for the schedule step");
  } else if (rate.hold_steps() <= rate.warmup_steps() || (steps > 0 && rate.hold_steps() > steps)) {
    rules.Report(
        field, absl::StrCat("must be above warmup_steps (", rate.warmup_steps(),
                            ") and at most training.steps (", steps, "), is ", rate.hold_steps()));
  }
}

void ResolveLearningRate(Rules& rules, v1::LearningRateSpec& rate, int64_t steps) {
  if (!rate.has_peak()) rate.set_peak(3e-4);
  if (!rate.has_schedule()) rate.set_schedule(v1::LearningRateSpec::SCHEDULE_COSINE);
  if (!rate.has_warmup_steps()) rate.set_warmup_steps(0);
  if (!rate.has_final_ratio()) rate.set_final_ratio(0.1);
  rules.Positive("training.learning_rate.peak", rate.peak());
  rules.InRange("training.learning_rate.final_ratio", rate.final_ratio(), 0.0, 1.0);
  if (!v1::LearningRateSpec::Schedule_IsValid(rate.schedule()) ||
      rate.schedule() == v1::LearningRateSpec::SCHEDULE_UNSPECIFIED) {
    rules.Report("training.learning_rate.schedule",
                 "must be one of constant, cosine, linear, inverse_sqrt, one_cycle, step");
  }
  if (rate.warmup_steps() < 0 || (steps > 0 && rate.warmup_steps() >= steps)) {
    rules.Report("training.learning_rate.warmup_steps",
                 absl::StrCat("must be 0 to training.steps - 1 (", steps - 1, "), is ",
                              rate.warmup_steps()));
  }
  ResolveInitialRatio(rules, rate);
  ResolveHoldSteps(rules, rate, steps);
}

}  // namespace

void ResolveTraining(Rules& rules, v1::TrainingSpec& training) {
  rules.RequirePositive("training.steps", training.steps());
  const bool batch = rules.RequirePositive("training.batch_size", training.batch_size());
  rules.InRange<int64_t>("training.sequence_length", training.sequence_length(), 1, kMaxSequence);
  if (!training.has_shards()) training.set_shards(batch ? DefaultShards(training.batch_size()) : 1);
  if (rules.InRange("training.shards", training.shards(), 1, kMaxShards) && batch) {
    ResolveBatch(rules, training);
  }
  if (!training.has_seed()) training.set_seed(0);
  ResolveOptimizer(rules, *training.mutable_optimizer());
  ResolveLearningRate(rules, *training.mutable_learning_rate(), training.steps());
  if (!training.has_clip_norm()) training.set_clip_norm(1);
  if (!(training.clip_norm() >= 0) || !std::isfinite(training.clip_norm())) {
    rules.Report("training.clip_norm", "must be 0 (no clipping) or greater");
  }
}

}  // namespace weft::spec
