#include "kernels/ops/adamw/adamw_cuda.h"

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/adamw/adamw_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status AdamWCuda(Stream& stream, const AdamWOptions& options, const Tensor& gradient,
                       const Tensor& clip, Tensor& parameter, Tensor& m, Tensor& v,
                       Tensor& rounded) {
  return CudaStatus(
      LaunchAdamW(AsCudaStream(stream).launch(), FactorsOf(options), parameter.count(),
                  gradient.data<float>(), clip.data<float>(), parameter.data<float>(),
                  m.data<float>(), v.data<float>(), rounded.address()),
      "AdamW");
}

}  // namespace

void RegisterCudaAdamW() { adamw.Set(DeviceKind::kCuda, AdamWCuda); }

}  // namespace weft::kernels::internal
