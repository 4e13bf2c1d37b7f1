#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/silu/silu_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCpu(Stream& stream, const Tensor& x, Tensor& y) {
  CpuStream& cpu = AsCpuStream(stream);
  ForBlocks(cpu, x.count(), kElementBlock, [&](int64_t first, int64_t count) {
    cpu.vector().silu(x.data<float>() + first, y.data<float>() + first, count);
  });
  return absl::OkStatus();
}

absl::Status BackwardCpu(Stream& stream, const Tensor& x, const Tensor& dy, Tensor& dx) {
  CpuStream& cpu = AsCpuStream(stream);
  ForBlocks(cpu, x.count(), kElementBlock, [&](int64_t first, int64_t count) {
    cpu.vector().silu_backward(x.data<float>() + first, dy.data<float>() + first,
                               dx.data<float>() + first, count);
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuSilu() {
  silu_forward.Set(DeviceKind::kCpu, ForwardCpu);
  silu_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
