#include "worker/train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "absl/memory/memory.h"
#include "common/base/status_macros.h"
#include "kernels/ops/adamw/adamw.h"
#include "kernels/ops/gradient_norm/gradient_norm.h"

namespace weft::worker {

using kernels::Tensor;

absl::StatusOr<std::unique_ptr<Optimizer>> Optimizer::Create(kernels::Device& device,
                                                             const ParameterLayout& layout,
                                                             const AdamWConfig& config,
                                                             double clip_norm,
                                                             std::optional<ElementRange> part) {
  const ElementRange all = {.first = 0, .count = layout.block_count()};
  auto optimizer = absl::WrapUnique(new Optimizer(layout, config, clip_norm, part.value_or(all)));
  const kernels::DType dtype = device.sum_dtype();
  for (Tensor* moment : {&optimizer->first_moment_, &optimizer->second_moment_}) {
    WEFT_ASSIGN_OR_RETURN(*moment, kernels::NewTensor(device, dtype, {optimizer->part_.count}));
  }
  WEFT_ASSIGN_OR_RETURN(optimizer->sum_of_squares_,
                        kernels::NewTensor(device, kernels::DType::kF64, {1}));
  WEFT_ASSIGN_OR_RETURN(optimizer->clip_, kernels::NewTensor(device, dtype, {1}));
  return optimizer;
}

Optimizer::Optimizer(const ParameterLayout& layout, const AdamWConfig& config, double clip_norm,
                     const ElementRange& part)
    : config_(config), clip_norm_(clip_norm), part_(part) {
  for (const Parameter& parameter : layout.parameters()) {
    if (segments_.empty() || segments_.back().weight_decay != parameter.weight_decay) {
      segments_.push_back({.first = parameter.offset, .weight_decay = parameter.weight_decay});
    }
    segments_.back().count = parameter.offset + parameter.shape.count() - segments_.back().first;
  }
  for (Segment& segment : segments_) {
    const int64_t last = std::min(segment.first + segment.count, part.first + part.count);
    segment.first = std::max(segment.first, part.first);
    segment.count = last - segment.first;
  }
  const auto is_empty = [](const Segment& segment) { return segment.count <= 0; };
  segments_.erase(std::remove_if(segments_.begin(), segments_.end(), is_empty), segments_.end());
}

absl::StatusOr<Optimizer::Outcome> Optimizer::Step(kernels::Stream& stream, const Tensor& gradient,
                                                   double learning_rate, double beta1,
                                                   ParameterBlock& weights, const Tensor& rounded) {
  WEFT_RETURN_IF_ERROR(kernels::SumOfSquares(stream, gradient, sum_of_squares_));
  double sum = 0;
  WEFT_RETURN_IF_ERROR(stream.device().CopyToHost(&sum, sum_of_squares_, stream));
  Outcome outcome{.gradient_norm = std::sqrt(sum), .applied = std::isfinite(sum)};
  if (!outcome.applied) return outcome;

  WEFT_RETURN_IF_ERROR(kernels::ClipFactor(stream, sum_of_squares_, clip_norm_, clip_));
  kernels::AdamWOptions options{.learning_rate = learning_rate,
                                .beta1 = beta1,
                                .beta2 = config_.beta2,
                                .epsilon = config_.epsilon,
                                .step = ++updates_};
  for (const Segment& segment : segments_) {
    const auto part = [&](const Tensor& block, int64_t block_first = 0) {
      return block.Part(segment.first - block_first, {segment.count});
    };
    Tensor parameter = part(weights.block());
    Tensor m = part(first_moment_, part_.first);
    Tensor v = part(second_moment_, part_.first);
    Tensor rounded_part = rounded.present() ? part(rounded) : Tensor();
    options.weight_decay = segment.weight_decay ? config_.weight_decay : 0.0;
    WEFT_RETURN_IF_ERROR(
        kernels::AdamW(stream, options, part(gradient), clip_, parameter, m, v, rounded_part));
  }
  return outcome;
}

}  // namespace weft::worker
