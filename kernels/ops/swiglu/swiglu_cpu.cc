#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/swiglu/swiglu_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCpu(Stream& stream, const Tensor& gate, const Tensor& up, Tensor& y) {
  CpuStream& cpu = AsCpuStream(stream);
  ForBlocks(cpu, gate.count(), kElementBlock, [&](int64_t first, int64_t count) {
    cpu.vector().swiglu(gate.data<float>() + first, up.data<float>() + first,
                        y.data<float>() + first, count);
  });
  return absl::OkStatus();
}

absl::Status BackwardCpu(Stream& stream, const Tensor& gate, const Tensor& up, const Tensor& dy,
                         Tensor& dgate, Tensor& dup) {
  CpuStream& cpu = AsCpuStream(stream);
  ForBlocks(cpu, gate.count(), kElementBlock, [&](int64_t first, int64_t count) {
    cpu.vector().swiglu_backward(gate.data<float>() + first, up.data<float>() + first,
                                 dy.data<float>() + first, dgate.data<float>() + first,
                                 dup.data<float>() + first, count);
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuSwiglu() {
  swiglu_forward.Set(DeviceKind::kCpu, ForwardCpu);
  swiglu_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
