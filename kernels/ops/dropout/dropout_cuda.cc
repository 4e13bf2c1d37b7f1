#include "kernels/ops/dropout/dropout_cuda.h"

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/dropout/dropout_draws.h"
#include "kernels/ops/dropout/dropout_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status DropoutCuda(Stream& stream, const DropoutOptions& options, const Tensor& x,
                         Tensor& y) {
  const PhiloxWords counter = CounterOf(SiteOf(options, /*row=*/0), 0, 0);
  const DropoutPlace place = {.seed = options.seed,
                              .counter2 = counter[2],
                              .counter3 = counter[3],
                              .first_position = static_cast<uint32_t>(options.first_position),
                              .first_ordinal = OrdinalOf(options, /*block=*/0),
                              .least_kept = LeastKept(options),
                              .scale = static_cast<float>(1 / (1 - options.probability))};
  return CudaStatus(LaunchDropout(AsCudaStream(stream).launch(), place, x.dim(0), x.dim(1),
                                  x.dim(2), x.address(), y.address()),
                    "Dropout");
}

}  // namespace

void RegisterCudaDropout() { dropout.Set(DeviceKind::kCuda, DropoutCuda); }

}  // namespace weft::kernels::internal
