#include <algorithm>
#include <cmath>

#include "kernels/ops/adamw/adamw_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status AdamWReference(Stream& /*stream*/, const AdamWOptions& options, const Tensor& gradient,
                            const Tensor& clip, Tensor& parameter, Tensor& m, Tensor& v,
                            Tensor& rounded) {
  const auto step = static_cast<double>(options.step);
  const double m_correction = 1 - std::pow(options.beta1, step);
  const double v_correction = 1 - std::pow(options.beta2, step);
  for (int64_t i = 0; i < parameter.count(); ++i) {
    const double g = clip.data<double>()[0] * gradient.data<double>()[i];
    double& mean = m.data<double>()[i];
    double& square = v.data<double>()[i];
    double& value = parameter.data<double>()[i];
    mean = options.beta1 * mean + (1 - options.beta1) * g;
    square = options.beta2 * square + (1 - options.beta2) * g * g;
    const double direction =
        mean / m_correction / (std::sqrt(square / v_correction) + options.epsilon);
    value -= options.learning_rate * (direction + options.weight_decay * value);
  }
  if (rounded.present()) {
    std::copy_n(parameter.data<double>(), parameter.count(), rounded.data<double>());
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceAdamW() { adamw.Set(DeviceKind::kReference, AdamWReference); }

}  // namespace weft::kernels::internal
