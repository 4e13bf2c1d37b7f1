#include <cmath>

#include "kernels/device/aligned_array.h"
#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/rotary/rotary_table.h"

namespace weft::kernels::internal {
namespace {

constexpr int64_t kTokenBlock = 16;

// y = x turned by `sign` times the angles. A block of tokens computes its angles once and turns all
// heads of all sequences by them.
void Rotate(CpuStream& cpu, const Tensor& x, double base, int64_t first_position, double sign,
            Tensor& y) {
  const int64_t tokens = x.dim(1);
  const int64_t heads = x.dim(2);
  const int64_t width = x.dim(3);
  const int64_t half = width / 2;
  ForBlocks(cpu, tokens, kTokenBlock, [&](int64_t first, int64_t count) {
    thread_local Scratch<float> scratch;
    float* cosines = scratch.Get(2 * half);
    float* sines = cosines + half;
    for (int64_t t = first; t < first + count; ++t) {
      for (int64_t i = 0; i < half; ++i) {
        const double exponent = -2 * static_cast<double>(i) / static_cast<double>(width);
        const double angle = static_cast<double>(first_position + t) * std::pow(base, exponent);
        cosines[i] = static_cast<float>(std::cos(angle));
        sines[i] = static_cast<float>(sign * std::sin(angle));
      }
      for (int64_t b = 0; b < x.dim(0); ++b) {
        for (int64_t h = 0; h < heads; ++h) {
          const int64_t at = ((b * tokens + t) * heads + h) * width;
          const float* from = x.data<float>() + at;
          float* to = y.data<float>() + at;
          cpu.vector().rotate(from, from + half, cosines, sines, to, to + half, half);
        }
      }
    }
  });
}

absl::Status ForwardCpu(Stream& stream, const Tensor& x, double base, int64_t first_position,
                        Tensor& y) {
  Rotate(AsCpuStream(stream), x, base, first_position, 1, y);
  return absl::OkStatus();
}

absl::Status BackwardCpu(Stream& stream, const Tensor& dy, double base, int64_t first_position,
                         Tensor& dx) {
  Rotate(AsCpuStream(stream), dy, base, first_position, -1, dx);
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuRotary() {
  rotary_forward.Set(DeviceKind::kCpu, ForwardCpu);
  rotary_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
