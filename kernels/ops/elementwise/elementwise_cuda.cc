#include "kernels/ops/elementwise/elementwise_cuda.h"

#include <bit>

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/device/host_values.h"
#include "kernels/ops/elementwise/elementwise_table.h"

namespace weft::kernels::internal {
namespace {

uint32_t BitsOf(DType dtype, double value) {
  switch (dtype) {
    case DType::kI32:
      return static_cast<uint32_t>(static_cast<int32_t>(value));
    case DType::kBf16:
      return Bf16From(static_cast<float>(value));
    default:
      return std::bit_cast<uint32_t>(static_cast<float>(value));
  }
}

absl::Status FillCuda(Stream& stream, Tensor& x, double value) {
  return CudaStatus(
      LaunchFill(AsCudaStream(stream).launch(), x.count(), static_cast<int>(SizeOf(x.dtype())),
                 BitsOf(x.dtype(), value), x.address()),
      "Fill");
}

absl::Status CopyCuda(Stream& stream, const Tensor& from, Tensor& to) {
  if (to.bytes() == 0) return absl::OkStatus();
  return CudaStatus(cudaMemcpyAsync(to.address(), from.address(), static_cast<size_t>(to.bytes()),
                                    cudaMemcpyDeviceToDevice, AsCudaStream(stream).launch().stream),
                    "Copy");
}

// Called for different types only: bf16 and f32.
absl::Status ConvertCuda(Stream& stream, const Tensor& from, Tensor& to) {
  const CudaLaunch& on = AsCudaStream(stream).launch();
  return CudaStatus(to.dtype() == DType::kBf16
                        ? LaunchNarrow(on, to.count(), from.data<float>(), to.address())
                        : LaunchWiden(on, to.count(), from.address(), to.data<float>()),
                    "Convert");
}

absl::Status AddCuda(Stream& stream, const Tensor& a, const Tensor& b, Tensor& out) {
  return CudaStatus(LaunchAdd(AsCudaStream(stream).launch(), out.dtype() == DType::kBf16,
                              out.count(), a.address(), b.address(), out.address()),
                    "Add");
}

}  // namespace

void RegisterCudaElementwise() {
  fill.Set(DeviceKind::kCuda, FillCuda);
  copy.Set(DeviceKind::kCuda, CopyCuda);
  convert.Set(DeviceKind::kCuda, ConvertCuda);
  add.Set(DeviceKind::kCuda, AddCuda);
}

}  // namespace weft::kernels::internal
