#include "worker/train/train_config.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/file/sha256.h"

namespace weft::worker {
namespace {

void CheckBatch(const BatchConfig& batch, std::vector<std::string>& problems) {
  if (batch.sequences < 1 || batch.sequence_length < 1) {
    problems.push_back(absl::StrCat("a batch of ", batch.sequences, " sequences of ",
                                    batch.sequence_length, " tokens: both must be at least 1"));
    return;
  }
  if (batch.shards < 1 || batch.sequences % batch.shards != 0) {
    problems.push_back(absl::StrCat("shards is ", batch.shards, " and must divide the batch of ",
                                    batch.sequences));
    return;
  }
  if (batch.micro_batch < 1 || batch.sequences_per_shard() % batch.micro_batch != 0) {
    problems.push_back(absl::StrCat("micro_batch is ", batch.micro_batch, " and must divide the ",
                                    batch.sequences_per_shard(), " sequences of a shard"));
  }
}

void CheckOptimizer(const AdamWConfig& adamw, std::vector<std::string>& problems) {
  const auto is_beta = [](double beta) { return beta >= 0 && beta < 1; };
  const double at_peak = adamw.beta1_at_peak.value_or(adamw.beta1);
  if (!is_beta(adamw.beta1) || !is_beta(adamw.beta2) || !is_beta(at_peak)) {
    problems.push_back(absl::StrCat("the betas are ", adamw.beta1, ", ", at_peak,
                                    " at the peak, and ", adamw.beta2,
                                    " and must be at least 0 and below 1"));
  }
  if (!(adamw.epsilon > 0)) problems.emplace_back("the optimizer's epsilon must be positive");
  if (!(adamw.weight_decay >= 0)) problems.emplace_back("weight_decay must be at least 0");
}

}  // namespace

int64_t RowsPerSample(const ModelConfig& model) {
  return model.kind == ModelKind::kTwoTower ? 2 : 1;
}

int64_t TokensOfStep(const TrainConfig& config) {
  return config.batch.sequences * RowsPerSample(config.model) * config.batch.sequence_length;
}

double Beta1At(const TrainConfig& config, int64_t step) {
  const AdamWConfig& adamw = config.optimizer;
  if (!adamw.beta1_at_peak.has_value()) return adamw.beta1;
  const double nearness = NearnessToPeak(config.learning_rate, step);
  return adamw.beta1 + (*adamw.beta1_at_peak - adamw.beta1) * nearness;
}

absl::Status Validate(const TrainConfig& config) {
  std::vector<std::string> problems;
  const auto add = [&](const absl::Status& status) {
    if (!status.ok()) problems.emplace_back(status.message());
  };
  add(Validate(config.model));
  add(Validate(config.learning_rate));
  CheckBatch(config.batch, problems);
  CheckOptimizer(config.optimizer, problems);
  if (config.steps != config.learning_rate.total_steps) {
    problems.push_back(absl::StrCat("steps is ", config.steps, " but the schedule has ",
                                    config.learning_rate.total_steps));
  }
  if (!(config.clip_norm >= 0)) problems.emplace_back("clip_norm must be 0 (none) or positive");
  if (config.evaluation.every_steps < 0 || config.evaluation.sequences < 0) {
    problems.emplace_back("evaluation.every_steps and evaluation.sequences must be at least 0");
  }
  if (config.checkpoint.every_steps < 0) {
    problems.emplace_back("checkpoint.every_steps must be at least 0");
  }
  if (config.slice_length < 0) problems.emplace_back("slice_length must be 0 (none) or positive");
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(problems, "; "));
}

std::string Fingerprint(const TrainConfig& config) {
  const LearningRateConfig& rate = config.learning_rate;
  const AdamWConfig& adamw = config.optimizer;
  // Doubles as hexadecimal: exact.
  std::string text = Canonical(config.model);
  absl::StrAppendFormat(&text, "batch sequences=%d length=%d shards=%d micro=%d\n",
                        config.batch.sequences, config.batch.sequence_length, config.batch.shards,
                        config.batch.micro_batch);
  absl::StrAppendFormat(&text, "rate schedule=%d peak=%a final=%a warmup=%d steps=%d\n",
                        static_cast<int>(rate.schedule), rate.peak, rate.final_ratio,
                        rate.warmup_steps, rate.total_steps);
  absl::StrAppendFormat(&text, "adamw %a %a %a %a clip=%a seed=%d\n", adamw.beta1, adamw.beta2,
                        adamw.epsilon, adamw.weight_decay, config.clip_norm, config.seed);
  // What came later is written only where it is used: digests in checkpoints stay what they are.
  if (rate.initial_ratio.has_value()) {
    absl::StrAppendFormat(&text, "rate initial=%a\n", *rate.initial_ratio);
  }
  if (rate.hold_steps > 0) absl::StrAppendFormat(&text, "rate hold=%d\n", rate.hold_steps);
  if (adamw.beta1_at_peak.has_value()) {
    absl::StrAppendFormat(&text, "adamw beta1 at peak=%a\n", *adamw.beta1_at_peak);
  }
  if (config.data.order != OrderKind::kShuffled) {
    absl::StrAppendFormat(&text, "order %d\n", static_cast<int>(config.data.order));
  }
  if (config.reproducibility == Reproducibility::kFixedGang) absl::StrAppend(&text, "fixed gang\n");
  return Sha256Of(text);
}

}  // namespace weft::worker
