#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/relu/relu_table.h"

namespace weft::kernels::internal {
namespace {

// Plain loops, which the compiler makes vectors of: memory is what they wait for.
absl::Status ForwardCpu(Stream& stream, const Tensor& x, Tensor& y) {
  ForBlocks(AsCpuStream(stream), x.count(), kElementBlock, [&](int64_t first, int64_t count) {
    const float* in = x.data<float>() + first;
    float* out = y.data<float>() + first;
    for (int64_t i = 0; i < count; ++i) out[i] = in[i] < 0 ? 0 : in[i];
  });
  return absl::OkStatus();
}

absl::Status BackwardCpu(Stream& stream, const Tensor& y, const Tensor& dy, Tensor& dx) {
  ForBlocks(AsCpuStream(stream), y.count(), kElementBlock, [&](int64_t first, int64_t count) {
    const float* results = y.data<float>() + first;
    const float* slopes = dy.data<float>() + first;
    float* out = dx.data<float>() + first;
    for (int64_t i = 0; i < count; ++i) out[i] = results[i] > 0 ? slopes[i] : 0;
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuRelu() {
  relu_forward.Set(DeviceKind::kCpu, ForwardCpu);
  relu_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
