#include "kernels/ops/adamw/adamw.h"

#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/ops/adamw/adamw_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {

absl::Status AdamW(Stream& stream, const AdamWOptions& options, const Tensor& gradient,
                   const Tensor& clip, Tensor& parameter, Tensor& m, Tensor& v, Tensor& rounded) {
  OperandCheck check("AdamW", stream);
  check.SumShaped("parameter", parameter, parameter.shape());
  if (check.ok()) {
    const Shape& shape = parameter.shape();
    check.SumShaped("gradient", gradient, shape).SumShaped("m", m, shape).SumShaped("v", v, shape);
    check.SumCounted("clip", clip, 1);
    if (rounded.present()) check.Shaped("rounded", rounded, shape);
  }
  const auto below_one = [](double beta) { return beta >= 0 && beta < 1; };
  check.Require(below_one(options.beta1) && below_one(options.beta2), "a beta is outside [0, 1)");
  check.Require(options.step >= 1, absl::StrCat("step is ", options.step, ", the first is 1"));
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::adamw.Call(stream, options, gradient, clip, parameter, m, v, rounded);
}

namespace internal {

AdamWFactors FactorsOf(const AdamWOptions& options) {
  const auto step = static_cast<double>(options.step);
  return {
      .beta1 = static_cast<float>(options.beta1),
      .beta2 = static_cast<float>(options.beta2),
      .one_minus_beta1 = static_cast<float>(1 - options.beta1),
      .one_minus_beta2 = static_cast<float>(1 - options.beta2),
      .step_size = static_cast<float>(options.learning_rate / (1 - std::pow(options.beta1, step))),
      .inverse_sqrt_correction =
          static_cast<float>(1 / std::sqrt(1 - std::pow(options.beta2, step))),
      .epsilon = static_cast<float>(options.epsilon),
      .decay = static_cast<float>(1 - options.learning_rate * options.weight_decay),
  };
}

}  // namespace internal
}  // namespace weft::kernels
