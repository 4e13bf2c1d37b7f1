#include "worker/model/model_config.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "worker/model/problems.h"

namespace weft::worker {
namespace {

void CheckSizes(const ModelConfig& config, Problems& problems) {
  problems.Require(config.vocabulary >= 2,
                   absl::StrCat("vocabulary is ", config.vocabulary, " and must be at least 2"));
  problems.Require(config.width >= 1,
                   absl::StrCat("width is ", config.width, " and must be positive"));
  problems.Require(config.hidden >= 1,
                   absl::StrCat("hidden is ", config.hidden, " and must be positive"));
  problems.Require(config.norm_epsilon > 0,
                   absl::StrCat("norm_epsilon is ", config.norm_epsilon, " and must be positive"));
  problems.Require(config.embedding_deviation.value_or(1.0) > 0,
                   absl::StrCat("the deviation of the embedding is ",
                                config.embedding_deviation.value_or(1.0), " and must be positive"));
}

void CheckPositions(const ModelConfig& config, Problems& problems) {
  switch (config.positions) {
    case PositionKind::kNone:
      return;
    case PositionKind::kSinusoidal:
      return problems.Require(
          config.width % 2 == 0,
          absl::StrCat("width is ", config.width, " and must be even for sinusoidal positions"));
    case PositionKind::kSinusoidalConcatenated:
      return problems.Require(
          config.width % 4 == 0,
          absl::StrCat("width is ", config.width,
                       " and must be a multiple of 4 for positions beside the embedding"));
    case PositionKind::kLearned:
      return problems.Require(config.max_positions >= 1 + (HasLeadingToken(config) ? 1 : 0),
                              absl::StrCat("max_positions is ", config.max_positions,
                                           ": learned positions need a row for each"));
  }
}

void CheckDropout(const DropoutConfig& dropout, Problems& problems) {
  const auto check = [&](double share, absl::string_view of) {
    problems.Require(share >= 0 && share < 1, absl::StrCat("the dropout of ", of, " is ", share,
                                                           " and must be at least 0 and below 1"));
  };
  check(dropout.embedding, "the embedding");
  check(dropout.attention, "attention weights");
  check(dropout.sublayer, "sublayers");
  check(dropout.mlp_hidden, "hidden values of the MLP");
}

void CheckHead(const ModelConfig& config, Problems& problems) {
  problems.Require(config.kind == ModelKind::kLanguageModel || config.classes >= 2,
                   absl::StrCat("classes is ", config.classes, " and must be at least 2"));
  problems.Require(!HasOneTarget(config) || config.head_hidden >= 1,
                   absl::StrCat("head_hidden is ", config.head_hidden, " and must be positive"));
  problems.Require(!config.tied || config.kind == ModelKind::kLanguageModel,
                   "only a language model can tie its logits to the embedding");
  problems.Require(
      !config.tied || EmbeddingWidth(config) == config.width,
      "logits cannot be tied to an embedding of half the width, beside concatenated positions");
}

}  // namespace

int64_t DefaultHidden(int64_t width) {
  constexpr int64_t multiple = 256;
  const int64_t wanted = width * 8 / 3;
  return (wanted + multiple - 1) / multiple * multiple;
}

int64_t ClassesOf(const ModelConfig& config) {
  return config.kind == ModelKind::kLanguageModel ? config.vocabulary : config.classes;
}

bool HasOneTarget(const ModelConfig& config) {
  return config.kind == ModelKind::kClassifier || config.kind == ModelKind::kTwoTower;
}

bool HasLeadingToken(const ModelConfig& config) {
  return HasOneTarget(config) && config.pooling == Pooling::kLeadingToken;
}

bool HasDraws(const ModelConfig& config) {
  const DropoutConfig& dropout = config.dropout;
  if (dropout.embedding > 0 || dropout.attention > 0 || dropout.sublayer > 0 ||
      dropout.mlp_hidden > 0) {
    return true;
  }
  return std::any_of(config.layers.begin(), config.layers.end(), [](const MixerConfig& layer) {
    return std::holds_alternative<SbmMixerConfig>(layer) ||
           std::holds_alternative<ScatterbrainMixerConfig>(layer);
  });
}

int64_t EmbeddingWidth(const ModelConfig& config) {
  return config.positions == PositionKind::kSinusoidalConcatenated ? config.width / 2
                                                                   : config.width;
}

double EmbeddingDeviation(const ModelConfig& config) {
  if (config.embedding_deviation) return *config.embedding_deviation;
  switch (config.weights) {
    case WeightScheme::kNormal:
      return 0.02;
    case WeightScheme::kLecun:
      return 1.0 / std::sqrt(static_cast<double>(EmbeddingWidth(config)));
    case WeightScheme::kTorch:
    case WeightScheme::kXavierUniform:
      return 1.0;
  }
  return 1.0;
}

absl::Status Validate(const ModelConfig& config) {
  Problems problems;
  CheckSizes(config, problems);
  CheckPositions(config, problems);
  CheckDropout(config.dropout, problems);
  CheckHead(config, problems);
  problems.Require(!config.layers.empty(), "layers is empty; at least one mixer is needed");
  for (size_t i = 0; i < config.layers.size(); ++i) {
    Check(config.layers[i], PlaceOf(config, i), absl::StrCat("layers[", i, "]"), problems);
  }
  return problems.ToStatus();
}

MixerPlace PlaceOf(const ModelConfig& config, size_t layer) {
  return {.width = config.width,
          .norm_epsilon = config.norm_epsilon,
          .causal = config.kind == ModelKind::kLanguageModel,
          .padded = config.padded,
          .layer = static_cast<int64_t>(layer),
          .layers = static_cast<int64_t>(config.layers.size()),
          .projection_bias = config.biases.projections,
          .output_projection = config.output_projection,
          .output_bias = config.biases.output,
          .attention_dropout = config.dropout.attention};
}

std::string Canonical(const ModelConfig& config) {
  // Doubles as hexadecimal: exact. Enumerators by their number: they are never renumbered.
  std::string text =
      absl::StrFormat("model kind=%d vocabulary=%d width=%d hidden=%d epsilon=%a\n", config.kind,
                      config.vocabulary, config.width, config.hidden, config.norm_epsilon);
  absl::StrAppendFormat(&text, "blocks norm=%d placement=%d mlp=%d\n", config.norm,
                        config.norm_placement, config.mlp);
  absl::StrAppendFormat(&text, "biases projections=%d output=%d mlp=%d logits=%d\n",
                        config.biases.projections, config.biases.output, config.biases.mlp,
                        config.biases.logits);
  absl::StrAppendFormat(&text, "dropout embedding=%a attention=%a sublayer=%a mlp_hidden=%a\n",
                        config.dropout.embedding, config.dropout.attention, config.dropout.sublayer,
                        config.dropout.mlp_hidden);
  absl::StrAppendFormat(&text, "input positions=%d rows=%d padded=%d\n", config.positions,
                        config.positions == PositionKind::kLearned ? config.max_positions : 0,
                        config.padded);
  absl::StrAppendFormat(&text, "output projection=%d norm=%d tied=%d classes=%d\n",
                        config.output_projection, config.final_norm, config.tied,
                        ClassesOf(config));
  if (HasOneTarget(config)) {
    absl::StrAppendFormat(&text, "head pooling=%d hidden=%d products=%d\n", config.pooling,
                          config.head_hidden,
                          config.kind == ModelKind::kTwoTower && config.pair_products);
  }
  absl::StrAppendFormat(&text, "weights scheme=%d embedding=%a\n", config.weights,
                        EmbeddingDeviation(config));
  for (const MixerConfig& layer : config.layers) {
    absl::StrAppend(&text, "layer ", Canonical(layer), "\n");
  }
  return text;
}

}  // namespace weft::worker
