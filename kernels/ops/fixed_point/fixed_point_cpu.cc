#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/base/casts.h"
#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/fixed_point/fixed_point_table.h"

namespace weft::kernels::internal {
namespace {

constexpr uint32_t kInfinityBits = 0x7F800000;  // of |x|; NaNs are above
constexpr int64_t kTask = 8 * kFixedPointBlock;

// Calls body(block, first, count) for every block of n elements, in parallel.
template <typename Body>
void ForExponentBlocks(CpuStream& cpu, int64_t n, const Body& body) {
  ForBlocks(cpu, n, kTask, [&](int64_t task_first, int64_t task_count) {
    const int64_t end = task_first + task_count;
    for (int64_t first = task_first; first < end; first += kFixedPointBlock) {
      body(first / kFixedPointBlock, first, std::min(kFixedPointBlock, end - first));
    }
  });
}

int32_t ExponentOf(uint32_t magnitude_bits) {
  if (magnitude_bits == 0) return kZeroExponent;
  if (magnitude_bits >= kInfinityBits) return kNonFiniteExponent;
  return std::ilogb(absl::bit_cast<float>(magnitude_bits));  // right for denormals too
}

absl::Status BlockExponentsCpu(Stream& stream, const Tensor& x, Accumulate accumulate,
                               Tensor& exponents) {
  CpuStream& cpu = AsCpuStream(stream);
  ForExponentBlocks(cpu, x.count(), [&](int64_t block, int64_t first, int64_t count) {
    const int32_t own = ExponentOf(cpu.vector().max_magnitude(x.data<float>() + first, count));
    int32_t& largest = exponents.data<int32_t>()[block];
    largest = accumulate == Accumulate::kYes ? std::max(largest, own) : own;
  });
  return absl::OkStatus();
}

absl::Status QuantizeCpu(Stream& stream, const Tensor& x, const Tensor& exponents, int bits,
                         Accumulate accumulate, Tensor& sum) {
  CpuStream& cpu = AsCpuStream(stream);
  // The largest float below 2^bits that is an integer.
  const auto limit =
      static_cast<float>(std::ldexp(1.0, bits) - std::ldexp(1.0, std::max(0, bits - 24)));
  ForExponentBlocks(cpu, x.count(), [&](int64_t block, int64_t first, int64_t count) {
    const int32_t exponent = exponents.data<int32_t>()[block];
    int32_t* sums = sum.data<int32_t>() + first;
    if (accumulate == Accumulate::kNo) std::fill_n(sums, count, 0);
    if (exponent == kZeroExponent || exponent == kNonFiniteExponent) return;
    // The scale of small exponents is beyond the largest float: two halves of it are not.
    const int shift = bits - 1 - exponent;
    const int half = shift / 2;
    cpu.vector().quantize_add(std::ldexp(1.0F, half), std::ldexp(1.0F, shift - half), limit,
                              x.data<float>() + first, sums, count);
  });
  return absl::OkStatus();
}

absl::Status DequantizeCpu(Stream& stream, const Tensor& sum, const Tensor& exponents, int bits,
                           Tensor& x) {
  CpuStream& cpu = AsCpuStream(stream);
  ForExponentBlocks(cpu, x.count(), [&](int64_t block, int64_t first, int64_t count) {
    const int32_t exponent = exponents.data<int32_t>()[block];
    float* values = x.data<float>() + first;
    if (exponent == kNonFiniteExponent) {
      std::fill_n(values, count, std::numeric_limits<float>::quiet_NaN());
    } else if (exponent == kZeroExponent) {
      std::fill_n(values, count, 0.0F);
    } else {
      cpu.vector().dequantize(sum.data<int32_t>() + first, std::ldexp(1.0, exponent + 1 - bits),
                              values, count);
    }
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuFixedPoint() {
  block_exponents.Set(DeviceKind::kCpu, BlockExponentsCpu);
  quantize.Set(DeviceKind::kCpu, QuantizeCpu);
  dequantize.Set(DeviceKind::kCpu, DequantizeCpu);
}

}  // namespace weft::kernels::internal
