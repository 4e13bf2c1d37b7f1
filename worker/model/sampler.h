// Text from a model, token by token.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/model/language_model.h"

namespace weft::worker {

struct SamplingOptions {
  int64_t tokens = 200;      // to generate
  double temperature = 0.8;  // logits are divided by it; 0: always the likeliest token
  int64_t top_k = 0;         // only the k likeliest tokens may be drawn; 0: all
  uint64_t seed = 0;
};

// Draws one token from logits. A pure function: draw number `index` of `seed`.
int32_t DrawToken(absl::Span<const double> logits, const SamplingOptions& options, uint32_t index);

class Sampler {
 public:
  // Model, weights and stream outlive the sampler; one thread at a time.
  Sampler(const LanguageModel& model, const ParameterBlock& weights, kernels::Stream& stream);

  // Continues `prompt` and hands over every new token as it is drawn; the caller ends the text
  // early by returning false. An empty prompt starts from token 0, which stands between texts in
  // training. kInvalidArgument for options out of range or a token outside the vocabulary.
  absl::Status Generate(absl::Span<const int32_t> prompt, const SamplingOptions& options,
                        absl::FunctionRef<bool(int32_t token)> on_token);

 private:
  // Takes in one token; logits_ then holds those of the next.
  absl::Status Advance(int32_t token, DecodingState& state, kernels::Tensor& logits,
                       absl::Span<double> into);

  const LanguageModel& model_;
  kernels::Stream& stream_;
  Scratch scratch_;
  const ParameterBlock weights_;
};

}  // namespace weft::worker
