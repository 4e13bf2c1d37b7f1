#include <cmath>

#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/l2_norm/l2_norm_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCpu(Stream& stream, const Tensor& x, double eps, double scale, Tensor& y,
                        Tensor& inverse_norm) {
  CpuStream& cpu = AsCpuStream(stream);
  const VectorTable& vector = cpu.vector();
  const int64_t width = x.dim(-1);
  const auto floor = static_cast<float>(eps);
  const auto factor = static_cast<float>(scale);
  ForBlocks(cpu, RowsOf(x), RowBlock(width), [&](int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) {
      const float* row = x.data<float>() + r * width;
      const float inverse = 1 / std::sqrt(vector.dot(row, row, width) + floor);
      inverse_norm.data<float>()[r] = inverse;
      vector.scale(factor * inverse, row, y.data<float>() + r * width, width);
    }
  });
  return absl::OkStatus();
}

absl::Status BackwardCpu(Stream& stream, const Tensor& y, const Tensor& inverse_norm, double scale,
                         const Tensor& dy, Tensor& dx) {
  CpuStream& cpu = AsCpuStream(stream);
  const VectorTable& vector = cpu.vector();
  const int64_t width = y.dim(-1);
  const auto factor = static_cast<float>(scale);
  ForBlocks(cpu, RowsOf(y), RowBlock(width), [&](int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) {
      const float* row = y.data<float>() + r * width;
      const float* slopes = dy.data<float>() + r * width;
      const float inverse = inverse_norm.data<float>()[r];
      const float dot = vector.dot(row, slopes, width);
      vector.combine(inverse * factor, slopes, -inverse * dot / factor, row,
                     dx.data<float>() + r * width, width);
    }
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuL2Norm() {
  l2_norm_forward.Set(DeviceKind::kCpu, ForwardCpu);
  l2_norm_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
