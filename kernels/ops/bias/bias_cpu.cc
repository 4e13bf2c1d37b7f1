#include <algorithm>

#include "kernels/device/aligned_array.h"
#include "kernels/ops/bias/bias_table.h"
#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCpu(Stream& stream, const Tensor& x, const Tensor& bias, Tensor& y) {
  CpuStream& cpu = AsCpuStream(stream);
  const int64_t channels = bias.count();
  ForBlocks(cpu, RowsOf(x), RowBlock(channels), [&](int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) {
      cpu.vector().add(x.data<float>() + r * channels, bias.data<float>(),
                       y.data<float>() + r * channels, channels);
    }
  });
  return absl::OkStatus();
}

absl::Status BackwardCpu(Stream& stream, const Tensor& dy, Tensor& dbias) {
  CpuStream& cpu = AsCpuStream(stream);
  const VectorTable& vector = cpu.vector();
  const int64_t channels = dbias.count();
  const int64_t rows = RowsOf(dy);
  const int64_t block = 8 * RowBlock(channels);
  const int64_t blocks = BlocksOf(rows, block);
  // Each block of rows sums its part, and the parts are added in the order of the blocks.
  thread_local Scratch<float> scratch;
  float* parts = scratch.Get(blocks * channels);
  ForBlocks(cpu, rows, block, [&](int64_t first, int64_t count) {
    float* part = parts + first / block * channels;
    std::fill_n(part, channels, 0.0F);
    for (int64_t r = first; r < first + count; ++r) {
      vector.add(part, dy.data<float>() + r * channels, part, channels);
    }
  });
  for (int64_t b = 0; b < blocks; ++b) {
    vector.add(dbias.data<float>(), parts + b * channels, dbias.data<float>(), channels);
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuBias() {
  bias_forward.Set(DeviceKind::kCpu, ForwardCpu);
  bias_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
