#include "kernels/device/aligned_array.h"
#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/geglu/geglu_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCpu(Stream& stream, GeluForm form, const Tensor& gate, const Tensor& up,
                        Tensor& y) {
  CpuStream& cpu = AsCpuStream(stream);
  const VectorTable& vector = cpu.vector();
  const auto gelu = form == GeluForm::kExact ? vector.gelu : vector.gelu_tanh;
  ForBlocks(cpu, gate.count(), kElementBlock, [&](int64_t first, int64_t count) {
    thread_local Scratch<float> scratch;
    float* activated = scratch.Get(kElementBlock);
    gelu(gate.data<float>() + first, activated, count);
    vector.multiply(activated, up.data<float>() + first, y.data<float>() + first, count);
  });
  return absl::OkStatus();
}

absl::Status BackwardCpu(Stream& stream, GeluForm form, const Tensor& gate, const Tensor& up,
                         const Tensor& dy, Tensor& dgate, Tensor& dup) {
  CpuStream& cpu = AsCpuStream(stream);
  const VectorTable& vector = cpu.vector();
  const bool exact = form == GeluForm::kExact;
  const auto gelu = exact ? vector.gelu : vector.gelu_tanh;
  const auto backward = exact ? vector.gelu_backward : vector.gelu_tanh_backward;
  ForBlocks(cpu, gate.count(), kElementBlock, [&](int64_t first, int64_t count) {
    thread_local Scratch<float> scratch;
    float* activated = scratch.Get(2 * kElementBlock);
    float* slopes = activated + kElementBlock;
    const float* g = gate.data<float>() + first;
    const float* dy_block = dy.data<float>() + first;
    // Every operand is read before a result takes its place.
    gelu(g, activated, count);
    vector.multiply(dy_block, up.data<float>() + first, slopes, count);
    vector.multiply(dy_block, activated, dup.data<float>() + first, count);
    backward(g, slopes, dgate.data<float>() + first, count);
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuGeglu() {
  geglu_forward.Set(DeviceKind::kCpu, ForwardCpu);
  geglu_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
