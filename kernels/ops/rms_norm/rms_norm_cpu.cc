#include <algorithm>
#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/device/aligned_array.h"
#include "kernels/ops/bias/bias.h"
#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/rms_norm/rms_norm_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCpu(Stream& stream, const Tensor& x, const Tensor& w, double eps, Tensor& y,
                        Tensor& rstd) {
  CpuStream& cpu = AsCpuStream(stream);
  const VectorTable& vector = cpu.vector();
  const int64_t channels = w.count();
  const auto floor = static_cast<float>(eps);
  ForBlocks(cpu, RowsOf(x), RowBlock(channels), [&](int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) {
      const float* row = x.data<float>() + r * channels;
      const float mean = vector.dot(row, row, channels) / static_cast<float>(channels);
      const float inverse = 1 / std::sqrt(mean + floor);
      rstd.data<float>()[r] = inverse;
      vector.scaled_multiply(inverse, row, w.data<float>(), y.data<float>() + r * channels,
                             channels);
    }
  });
  return absl::OkStatus();
}

// dx of some rows; their part of dw is added to `weight_slopes`.
void BackwardRows(const VectorTable& vector, int64_t first, int64_t count, const Tensor& x,
                  const float* weights, const float* rstd, const Tensor& dy, Tensor& dx,
                  Accumulate accumulate, float* weight_slopes, int64_t channels) {
  for (int64_t r = first; r < first + count; ++r) {
    const float* row = x.data<float>() + r * channels;
    const float* slopes = dy.data<float>() + r * channels;
    float* result = dx.data<float>() + r * channels;
    const float inverse = rstd[r];
    const float mean = vector.dot3(weights, slopes, row, channels) / static_cast<float>(channels);
    // Before dx, which may take the place of dy.
    vector.scaled_multiply_add(inverse, slopes, row, weight_slopes, channels);
    if (accumulate == Accumulate::kYes) {
      vector.scaled_multiply_add(inverse, weights, slopes, result, channels);
    } else {
      vector.scaled_multiply(inverse, weights, slopes, result, channels);
    }
    vector.axpy(-inverse * inverse * inverse * mean, row, result, channels);
  }
}

absl::Status BackwardCpu(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& rstd,
                         const Tensor& dy, Tensor& dx, Accumulate accumulate, Tensor& dw,
                         Tensor& dx_sums) {
  if (dx_sums.present()) WEFT_RETURN_IF_ERROR(BiasBackward(stream, dx, dx_sums));
  CpuStream& cpu = AsCpuStream(stream);
  const VectorTable& vector = cpu.vector();
  const int64_t channels = w.count();
  const int64_t rows = RowsOf(x);
  const int64_t block = 8 * RowBlock(channels);
  const int64_t blocks = BlocksOf(rows, block);
  // Each block of rows sums its part of dw, and the parts are added in the order of the blocks.
  thread_local Scratch<float> scratch;
  float* parts = scratch.Get(blocks * channels);
  ForBlocks(cpu, rows, block, [&](int64_t first, int64_t count) {
    float* part = parts + first / block * channels;
    std::fill_n(part, channels, 0.0F);
    BackwardRows(vector, first, count, x, w.data<float>(), rstd.data<float>(), dy, dx, accumulate,
                 part, channels);
  });
  for (int64_t b = 0; b < blocks; ++b) {
    vector.add(dw.data<float>(), parts + b * channels, dw.data<float>(), channels);
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuRmsNorm() {
  rms_norm_forward.Set(DeviceKind::kCpu, ForwardCpu);
  rms_norm_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
