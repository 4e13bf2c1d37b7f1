#include "kernels/ops/adamw/adamw_cuda.h"

#include <cmath>

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/adamw/adamw_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status AdamWCuda(Stream& stream, const AdamWOptions& options, const Tensor& gradient,
                       const Tensor& clip, Tensor& parameter, Tensor& m, Tensor& v,
                       Tensor& rounded) {
  const auto step = static_cast<double>(options.step);
  const AdamWFactorsCuda factors = {
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
  return CudaStatus(LaunchAdamW(AsCudaStream(stream).launch(), factors, parameter.count(),
                                gradient.data<float>(), clip.data<float>(), parameter.data<float>(),
                                m.data<float>(), v.data<float>(), rounded.address()),
                    "AdamW");
}

}  // namespace

void RegisterCudaAdamW() { adamw.Set(DeviceKind::kCuda, AdamWCuda); }

}  // namespace weft::kernels::internal
