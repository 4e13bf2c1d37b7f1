#include "kernels/ops/rotary/rotary_cuda.h"

#include "common/base/status_macros.h"
#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/rotary/rotary_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status Rotate(Stream& stream, const Tensor& x, double base, int64_t first_position,
                    float sign, Tensor& y) {
  CudaStream& cuda = AsCudaStream(stream);
  WEFT_ASSIGN_OR_RETURN(const CudaScratch angles,
                        cuda.Scratch(RotaryAngles(x.dim(1), x.dim(3)) * SizeOf(DType::kF32)));
  return CudaStatus(
      LaunchRotary(cuda.launch(), x.dim(0), x.dim(1), x.dim(2), x.dim(3), base, first_position,
                   sign, x.address(), angles.data<float>(), y.address()),
      "Rotary");
}

absl::Status ForwardCuda(Stream& stream, const Tensor& x, double base, int64_t first_position,
                         Tensor& y) {
  return Rotate(stream, x, base, first_position, 1.0F, y);
}

absl::Status BackwardCuda(Stream& stream, const Tensor& dy, double base, int64_t first_position,
                          Tensor& dx) {
  return Rotate(stream, dy, base, first_position, -1.0F, dx);
}

}  // namespace

void RegisterCudaRotary() {
  rotary_forward.Set(DeviceKind::kCuda, ForwardCuda);
  rotary_backward.Set(DeviceKind::kCuda, BackwardCuda);
}

}  // namespace weft::kernels::internal
