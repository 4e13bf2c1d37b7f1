#include "worker/train/optimizer.h"

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
                                                             double clip_norm) {
  auto optimizer = absl::WrapUnique(new Optimizer(layout, config, clip_norm));
  const kernels::DType dtype = device.sum_dtype();
  for (Tensor* moment : {&optimizer->first_moment_, &optimizer->second_moment_}) {
    WEFT_ASSIGN_OR_RETURN(*moment, kernels::NewTensor(device, dtype, {layout.block_count()}));
  }
  WEFT_ASSIGN_OR_RETURN(optimizer->sum_of_squares_,
                        kernels::NewTensor(device, kernels::DType::kF64, {1}));
  WEFT_ASSIGN_OR_RETURN(optimizer->clip_, kernels::NewTensor(device, dtype, {1}));
  return optimizer;
}

Optimizer::Optimizer(const ParameterLayout& layout, const AdamWConfig& config, double clip_norm)
    : config_(config), clip_norm_(clip_norm) {
  for (const Parameter& parameter : layout.parameters()) {
    if (segments_.empty() || segments_.back().weight_decay != parameter.weight_decay) {
      segments_.push_back({.first = parameter.offset, .weight_decay = parameter.weight_decay});
    }
    segments_.back().count = parameter.offset + parameter.shape.count() - segments_.back().first;
  }
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
    const auto part = [&](const Tensor& block) {
      return block.Part(segment.first, {segment.count});
    };
    Tensor parameter = part(weights.block());
    Tensor m = part(first_moment_);
    Tensor v = part(second_moment_);
    Tensor rounded_part = rounded.present() ? part(rounded) : Tensor();
    options.weight_decay = segment.weight_decay ? config_.weight_decay : 0.0;
    WEFT_RETURN_IF_ERROR(
        kernels::AdamW(stream, options, part(gradient), clip_, parameter, m, v, rounded_part));
  }
  return outcome;
}

}  // namespace weft::worker
