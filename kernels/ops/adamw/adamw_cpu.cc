#include <algorithm>
#include <cmath>

#include "kernels/ops/adamw/adamw_table.h"
#include "kernels/ops/cpu_blocks.h"

namespace weft::kernels::internal {
namespace {

absl::Status AdamWCpu(Stream& stream, const AdamWOptions& options, const Tensor& gradient,
                      const Tensor& clip, Tensor& parameter, Tensor& m, Tensor& v,
                      Tensor& rounded) {
  const auto step = static_cast<double>(options.step);
  const AdamWFactors factors = {
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
  CpuStream& cpu = AsCpuStream(stream);
  const float factor = clip.data<float>()[0];
  ForBlocks(cpu, parameter.count(), kElementBlock, [&](int64_t first, int64_t count) {
    cpu.vector().adamw(factors, factor, gradient.data<float>() + first,
                       parameter.data<float>() + first, m.data<float>() + first,
                       v.data<float>() + first, count);
    if (rounded.present()) {
      std::copy_n(parameter.data<float>() + first, count, rounded.data<float>() + first);
    }
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuAdamW() { adamw.Set(DeviceKind::kCpu, AdamWCpu); }

}  // namespace weft::kernels::internal
