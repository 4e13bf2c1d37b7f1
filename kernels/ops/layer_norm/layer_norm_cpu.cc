#include <algorithm>

#include "common/base/status_macros.h"
#include "kernels/device/aligned_array.h"
#include "kernels/ops/bias/bias.h"
#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/layer_norm/layer_norm_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCpu(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& b,
                        double eps, Tensor& y, Tensor& mean, Tensor& rstd) {
  CpuStream& cpu = AsCpuStream(stream);
  const int64_t channels = w.count();
  ForBlocks(cpu, RowsOf(x), RowBlock(channels), [&](int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) {
      cpu.vector().layer_norm(x.data<float>() + r * channels, w.data<float>(), b.data<float>(),
                              static_cast<float>(eps), y.data<float>() + r * channels,
                              mean.data<float>() + r, rstd.data<float>() + r, channels);
    }
  });
  return absl::OkStatus();
}

absl::Status BackwardCpu(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& mean,
                         const Tensor& rstd, const Tensor& dy, Tensor& dx, Accumulate accumulate,
                         Tensor& dw, Tensor& db, Tensor& dx_sums) {
  if (dx_sums.present()) WEFT_RETURN_IF_ERROR(BiasBackward(stream, dx, dx_sums));
  CpuStream& cpu = AsCpuStream(stream);
  const int64_t channels = w.count();
  const int64_t rows = RowsOf(x);
  const int64_t block = 8 * RowBlock(channels);
  const int64_t blocks = BlocksOf(rows, block);
  // Each block of rows sums its part of dw and db, and the parts are added in the order of the
  // blocks.
  thread_local Scratch<float> scratch;
  float* parts = scratch.Get(blocks * 2 * channels);
  ForBlocks(cpu, rows, block, [&](int64_t first, int64_t count) {
    float* part = parts + first / block * 2 * channels;
    std::fill_n(part, 2 * channels, 0.0F);
    for (int64_t r = first; r < first + count; ++r) {
      cpu.vector().layer_norm_backward(
          x.data<float>() + r * channels, w.data<float>(), mean.data<float>()[r],
          rstd.data<float>()[r], dy.data<float>() + r * channels, accumulate == Accumulate::kYes,
          dx.data<float>() + r * channels, part, part + channels, channels);
    }
  });
  for (int64_t i = 0; i < blocks; ++i) {
    const float* part = parts + i * 2 * channels;
    cpu.vector().add(dw.data<float>(), part, dw.data<float>(), channels);
    cpu.vector().add(db.data<float>(), part + channels, db.data<float>(), channels);
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuLayerNorm() {
  layer_norm_forward.Set(DeviceKind::kCpu, ForwardCpu);
  layer_norm_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
