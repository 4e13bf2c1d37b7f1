#include "worker/model/model_config.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "worker/model/problems.h"

namespace weft::worker {

int64_t DefaultHidden(int64_t width) {
  constexpr int64_t multiple = 256;
  const int64_t wanted = width * 8 / 3;
  return (wanted + multiple - 1) / multiple * multiple;
}

absl::Status Validate(const ModelConfig& config) {
  Problems problems;
  problems.Require(config.vocabulary >= 2,
                   absl::StrCat("vocabulary is ", config.vocabulary, " and must be at least 2"));
  problems.Require(config.width >= 1,
                   absl::StrCat("width is ", config.width, " and must be positive"));
  problems.Require(config.hidden >= 1,
                   absl::StrCat("hidden is ", config.hidden, " and must be positive"));
  problems.Require(config.norm_epsilon > 0,
                   absl::StrCat("norm_epsilon is ", config.norm_epsilon, " and must be positive"));
  problems.Require(config.dropout.attention >= 0 && config.dropout.attention < 1,
                   absl::StrCat("the dropout of attention weights is ", config.dropout.attention,
                                " and must be at least 0 and below 1"));
  problems.Require(!config.layers.empty(), "layers is empty; at least one mixer is needed");
  for (size_t i = 0; i < config.layers.size(); ++i) {
    Check(config.layers[i], PlaceOf(config, i), absl::StrCat("layers[", i, "]"), problems);
  }
  return problems.ToStatus();
}

MixerPlace PlaceOf(const ModelConfig& config, size_t layer) {
  return {.width = config.width,
          .norm_epsilon = config.norm_epsilon,
          .causal = true,
          .layer = static_cast<int64_t>(layer),
          .layers = static_cast<int64_t>(config.layers.size()),
          .projection_bias = config.biases.projections,
          .output_projection = config.output_projection,
          .output_bias = config.biases.output,
          .attention_dropout = config.dropout.attention};
}

std::string Canonical(const ModelConfig& config) {
  // Doubles as hexadecimal: exact.
  std::string text =
      absl::StrFormat("model vocabulary=%d width=%d hidden=%d epsilon=%a\n", config.vocabulary,
                      config.width, config.hidden, config.norm_epsilon);
  absl::StrAppendFormat(&text, "mixers projection_bias=%d output=%d output_bias=%d dropout=%a\n",
                        config.biases.projections, config.output_projection, config.biases.output,
                        config.dropout.attention);
  for (const MixerConfig& layer : config.layers) {
    absl::StrAppend(&text, "layer ", Canonical(layer), "\n");
  }
  return text;
}

}  // namespace weft::worker
