#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/gelu/gelu_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCpu(Stream& stream, GeluForm form, const Tensor& x, Tensor& y) {
  CpuStream& cpu = AsCpuStream(stream);
  const auto gelu = form == GeluForm::kExact ? cpu.vector().gelu : cpu.vector().gelu_tanh;
  ForBlocks(cpu, x.count(), kElementBlock, [&](int64_t first, int64_t count) {
    gelu(x.data<float>() + first, y.data<float>() + first, count);
  });
  return absl::OkStatus();
}

absl::Status BackwardCpu(Stream& stream, GeluForm form, const Tensor& x, const Tensor& dy,
                         Tensor& dx) {
  CpuStream& cpu = AsCpuStream(stream);
  const auto backward =
      form == GeluForm::kExact ? cpu.vector().gelu_backward : cpu.vector().gelu_tanh_backward;
  ForBlocks(cpu, x.count(), kElementBlock, [&](int64_t first, int64_t count) {
    backward(x.data<float>() + first, dy.data<float>() + first, dx.data<float>() + first, count);
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuGelu() {
  gelu_forward.Set(DeviceKind::kCpu, ForwardCpu);
  gelu_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
