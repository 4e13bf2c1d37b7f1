// The models that benchmarks of training on GPUs share, and tokens for them: noise, since time does
// not depend on them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/check.h"
#include "worker/data/token_windows.h"
#include "worker/train/train_config.h"

namespace weft::worker {

template <typename T>
T Must(absl::StatusOr<T> result) {
  WEFT_CHECK_MSG(result.ok(), result.status().ToString());
  return *std::move(result);
}

class Noise final : public TokenStream {
 public:
  explicit Noise(int32_t vocabulary) : vocabulary_(vocabulary) {}
  [[nodiscard]] int64_t size() const override { return int64_t{1} << 24; }
  [[nodiscard]] int32_t vocabulary() const override { return vocabulary_; }
  absl::Status Read(int64_t first, absl::Span<int32_t> into) const override {
    for (size_t i = 0; i < into.size(); ++i) {
      const auto place = static_cast<uint64_t>(first) + i;
      into[i] =
          static_cast<int32_t>((place * 2654435761 >> 13) % static_cast<uint64_t>(vocabulary_));
    }
    return absl::OkStatus();
  }
  [[nodiscard]] const std::string& fingerprint() const override { return name_; }
  [[nodiscard]] std::string Describe() const override { return name_; }

 private:
  const int32_t vocabulary_;
  const std::string name_ = "noise";
};

inline TrainConfig Gpt2() {
  TrainConfig config;
  config.model = {.vocabulary = 50304,  // 50257, padded as llm.c pads it
                  .width = 768,
                  .hidden = 3072,
                  .layers = std::vector<MixerConfig>(
                      12, SoftmaxMixerConfig{.heads = 12, .kv_heads = 12, .rotary_base = 0.0}),
                  .biases = {.projections = true, .output = true, .mlp = true},
                  .norm = NormKind::kLayer,
                  .mlp = MlpKind::kGeluTanh,
                  .positions = PositionKind::kLearned,
                  .max_positions = 1024,
                  .tied = true};
  config.batch = {.sequences = 512, .sequence_length = 1024, .shards = 1, .micro_batch = 128};
  return config;
}

inline TrainConfig DeltaNet(int64_t tokens, int64_t sequences, int64_t micro_batch) {
  TrainConfig config;
  config.model = {.vocabulary = 32000,
                  .width = 2048,
                  .hidden = 5632,
                  .layers = std::vector<MixerConfig>(24, DeltaMixerConfig{.heads = 16}),
                  .weights = WeightScheme::kTorch};  // quickly drawn
  config.batch = {
      .sequences = sequences, .sequence_length = tokens, .shards = 1, .micro_batch = micro_batch};
  return config;
}

}  // namespace weft::worker
