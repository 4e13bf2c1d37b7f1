#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/sigmoid/sigmoid_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCpu(Stream& stream, const Tensor& x, double scale, Tensor& y) {
  CpuStream& cpu = AsCpuStream(stream);
  ForBlocks(cpu, x.count(), kElementBlock, [&](int64_t first, int64_t count) {
    cpu.vector().sigmoid(x.data<float>() + first, static_cast<float>(scale),
                         y.data<float>() + first, count);
  });
  return absl::OkStatus();
}

absl::Status BackwardCpu(Stream& stream, const Tensor& y, double scale, const Tensor& dy,
                         Tensor& dx) {
  CpuStream& cpu = AsCpuStream(stream);
  ForBlocks(cpu, y.count(), kElementBlock, [&](int64_t first, int64_t count) {
    cpu.vector().sigmoid_backward(y.data<float>() + first, static_cast<float>(scale),
                                  dy.data<float>() + first, dx.data<float>() + first, count);
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuSigmoid() {
  sigmoid_forward.Set(DeviceKind::kCpu, ForwardCpu);
  sigmoid_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
