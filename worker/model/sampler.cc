#include "worker/model/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/device/host_values.h"
#include "kernels/random/philox.h"

namespace weft::worker {

using kernels::Tensor;

namespace {

absl::Status CheckOptions(absl::Span<const int32_t> prompt, const SamplingOptions& options,
                          int64_t vocabulary) {
  if (options.tokens < 1) return absl::InvalidArgumentError("tokens must be at least 1");
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature)) {
    return absl::InvalidArgumentError("temperature must be 0 or positive");
  }
  if (options.top_k < 0) return absl::InvalidArgumentError("top_k must be 0 (all) or positive");
  for (const int32_t token : prompt) {
    if (token < 0 || token >= vocabulary) {
      return absl::InvalidArgumentError(
          absl::StrCat("the prompt's token ", token, " is outside the vocabulary of ", vocabulary));
    }
  }
  return absl::OkStatus();
}

}  // namespace

int32_t DrawToken(absl::Span<const double> logits, const SamplingOptions& options, uint32_t index) {
  // Likeliest first; equal logits in the order of tokens, so that the result is defined.
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](int32_t a, int32_t b) {
    const double x = logits[static_cast<size_t>(a)];
    const double y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::sort(order.begin(), order.end(), likelier);
  if (options.temperature == 0) return order.front();
  if (options.top_k > 0 && static_cast<size_t>(options.top_k) < order.size()) {
    order.resize(static_cast<size_t>(options.top_k));
  }
  const double highest = logits[static_cast<size_t>(order.front())];
  std::vector<double> weights;
  weights.reserve(order.size());
  double total = 0;
  for (const int32_t token : order) {
    weights.push_back(
        std::exp((logits[static_cast<size_t>(token)] - highest) / options.temperature));
    total += weights.back();
  }
  const kernels::DrawSite site{.tag = kernels::RandomTag::kEvaluation};
  const kernels::PhiloxWords words = kernels::Draw(options.seed, site, index, /*ordinal=*/0);
  double left = kernels::U53(words[0], words[1]) * total;
  for (size_t i = 0; i < order.size(); ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  return order.back();  // rounding only
}

Sampler::Sampler(const LanguageModel& model, const ParameterBlock& weights, kernels::Stream& stream)
    : model_(model), stream_(stream), scratch_(stream.device()), weights_(weights) {}

absl::Status Sampler::Advance(int32_t token, DecodingState& state, Tensor& logits,
                              absl::Span<double> into) {
  kernels::Device& device = stream_.device();
  const Pass pass{.stream = stream_, .scratch = scratch_, .weights = weights_};
  WEFT_RETURN_IF_ERROR(device.CopyFromHost(state.token, &token, stream_));
  WEFT_RETURN_IF_ERROR(model_.Decode(pass, state, logits));
  WEFT_ASSIGN_OR_RETURN(const std::vector<double> values, kernels::ReadValues(logits, stream_));
  std::copy(values.begin(), values.end(), into.begin());
  return absl::OkStatus();
}

absl::Status Sampler::Generate(absl::Span<const int32_t> prompt, const SamplingOptions& options,
                               absl::FunctionRef<bool(int32_t token)> on_token) {
  const int64_t vocabulary = model_.config().vocabulary;
  WEFT_RETURN_IF_ERROR(CheckOptions(prompt, options, vocabulary));
  const int32_t start[] = {0};
  if (prompt.empty()) prompt = start;

  kernels::Device& device = stream_.device();
  const auto length = static_cast<int64_t>(prompt.size()) + options.tokens;
  WEFT_ASSIGN_OR_RETURN(const auto state, model_.NewDecodingState(device, length));
  WEFT_ASSIGN_OR_RETURN(Tensor logits,
                        kernels::NewTensor(device, device.compute_dtype(), {1, vocabulary}));
  std::vector<double> host_logits(static_cast<size_t>(vocabulary));
  for (const int32_t token : prompt) {
    WEFT_RETURN_IF_ERROR(Advance(token, *state, logits, absl::MakeSpan(host_logits)));
  }
  for (int64_t i = 0; i < options.tokens; ++i) {
    const int32_t token = DrawToken(host_logits, options, static_cast<uint32_t>(i));
    if (!on_token(token) || i + 1 == options.tokens) break;
    WEFT_RETURN_IF_ERROR(Advance(token, *state, logits, absl::MakeSpan(host_logits)));
  }
  return absl::OkStatus();
}

}  // namespace weft::worker
