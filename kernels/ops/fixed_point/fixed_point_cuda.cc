#include "kernels/ops/fixed_point/fixed_point_cuda.h"

#include "kernels/device/cuda/cuda_status.h"
#include "kernels/device/cuda/cuda_stream.h"
#include "kernels/ops/fixed_point/fixed_point_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status BlockExponentsCuda(Stream& stream, const Tensor& x, Accumulate accumulate,
                                Tensor& exponents) {
  return CudaStatus(
      LaunchBlockExponents(AsCudaStream(stream).launch(), x.count(), accumulate == Accumulate::kYes,
                           x.data<float>(), exponents.data<int32_t>()),
      "BlockExponents");
}

absl::Status QuantizeCuda(Stream& stream, const Tensor& x, const Tensor& exponents, int bits,
                          Accumulate accumulate, Tensor& sum) {
  return CudaStatus(
      LaunchQuantize(AsCudaStream(stream).launch(), x.count(), bits, accumulate == Accumulate::kYes,
                     x.data<float>(), exponents.data<int32_t>(), sum.data<int32_t>()),
      "Quantize");
}

absl::Status DequantizeCuda(Stream& stream, const Tensor& sum, const Tensor& exponents, int bits,
                            Tensor& x) {
  return CudaStatus(
      LaunchDequantize(AsCudaStream(stream).launch(), x.count(), bits, sum.data<int32_t>(),
                       exponents.data<int32_t>(), x.data<float>()),
      "Dequantize");
}

}  // namespace

void RegisterCudaFixedPoint() {
  block_exponents.Set(DeviceKind::kCuda, BlockExponentsCuda);
  quantize.Set(DeviceKind::kCuda, QuantizeCuda);
  dequantize.Set(DeviceKind::kCuda, DequantizeCuda);
}

}  // namespace weft::kernels::internal
