#include <algorithm>

#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/mean_pool/mean_pool_table.h"

namespace weft::kernels::internal {
namespace {

bool IsValid(const Tensor& valid, int64_t token) {
  return !valid.present() || valid.data<int32_t>()[token] != 0;
}

// A sequence is one task: its tokens are added in their order.
absl::Status ForwardCpu(Stream& stream, const Tensor& x, const Tensor& valid, Tensor& y) {
  CpuStream& cpu = AsCpuStream(stream);
  const VectorTable& vector = cpu.vector();
  const int64_t tokens = x.dim(1);
  const int64_t channels = x.dim(2);
  cpu.ParallelFor(x.dim(0), [&](int64_t b) {
    float* sum = y.data<float>() + b * channels;
    std::fill_n(sum, channels, 0.0F);
    for (int64_t t = b * tokens; t < (b + 1) * tokens; ++t) {
      if (IsValid(valid, t)) vector.add(sum, x.data<float>() + t * channels, sum, channels);
    }
    vector.scale(1 / static_cast<float>(tokens), sum, sum, channels);
  });
  return absl::OkStatus();
}

absl::Status BackwardCpu(Stream& stream, const Tensor& dy, const Tensor& valid, Tensor& dx) {
  CpuStream& cpu = AsCpuStream(stream);
  const int64_t tokens = dx.dim(1);
  const int64_t channels = dx.dim(2);
  const float factor = 1 / static_cast<float>(tokens);
  ForBlocks(cpu, dx.dim(0) * tokens, RowBlock(channels), [&](int64_t first, int64_t count) {
    for (int64_t t = first; t < first + count; ++t) {
      float* slopes = dx.data<float>() + t * channels;
      if (IsValid(valid, t)) {
        cpu.vector().scale(factor, dy.data<float>() + t / tokens * channels, slopes, channels);
      } else {
        std::fill_n(slopes, channels, 0.0F);
      }
    }
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuMeanPool() {
  mean_pool_forward.Set(DeviceKind::kCpu, ForwardCpu);
  mean_pool_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
