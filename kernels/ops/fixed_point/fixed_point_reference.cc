#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/ops/fixed_point/fixed_point_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status BlockExponentsReference(Stream& /*stream*/, const Tensor& x, Accumulate accumulate,
                                     Tensor& exponents) {
  if (accumulate == Accumulate::kNo) {
    std::fill_n(exponents.data<int32_t>(), exponents.count(), kZeroExponent);
  }
  for (int64_t i = 0; i < x.count(); ++i) {
    const double value = x.data<double>()[i];
    int32_t& largest = exponents.data<int32_t>()[i / kFixedPointBlock];
    if (!std::isfinite(value)) {
      largest = kNonFiniteExponent;
    } else if (value != 0) {
      largest = std::max(largest, static_cast<int32_t>(std::ilogb(value)));
    }
  }
  return absl::OkStatus();
}

absl::Status QuantizeReference(Stream& /*stream*/, const Tensor& x, const Tensor& exponents,
                               int bits, Accumulate accumulate, Tensor& sum) {
  if (accumulate == Accumulate::kNo) std::fill_n(sum.data<int32_t>(), sum.count(), 0);
  const double limit = std::ldexp(1.0, bits) - 1;
  for (int64_t i = 0; i < x.count(); ++i) {
    const int32_t exponent = exponents.data<int32_t>()[i / kFixedPointBlock];
    if (exponent == kZeroExponent || exponent == kNonFiniteExponent) continue;
    const double scaled = std::nearbyint(std::ldexp(x.data<double>()[i], bits - 1 - exponent));
    sum.data<int32_t>()[i] += static_cast<int32_t>(std::clamp(scaled, -limit, limit));
  }
  return absl::OkStatus();
}

absl::Status DequantizeReference(Stream& /*stream*/, const Tensor& sum, const Tensor& exponents,
                                 int bits, Tensor& x) {
  for (int64_t i = 0; i < x.count(); ++i) {
    const int32_t exponent = exponents.data<int32_t>()[i / kFixedPointBlock];
    double& value = x.data<double>()[i];
    if (exponent == kNonFiniteExponent) {
      value = std::numeric_limits<double>::quiet_NaN();
    } else if (exponent == kZeroExponent) {
      value = 0;
    } else {
      value = std::ldexp(static_cast<double>(sum.data<int32_t>()[i]), exponent + 1 - bits);
    }
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceFixedPoint() {
  block_exponents.Set(DeviceKind::kReference, BlockExponentsReference);
  quantize.Set(DeviceKind::kReference, QuantizeReference);
  dequantize.Set(DeviceKind::kReference, DequantizeReference);
}

}  // namespace weft::kernels::internal
