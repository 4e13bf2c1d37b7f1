#include <algorithm>

#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/pair_features/pair_features_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardCpu(Stream& stream, const Tensor& x, Tensor& y) {
  CpuStream& cpu = AsCpuStream(stream);
  const VectorTable& vector = cpu.vector();
  const int64_t channels = x.dim(1) / 2;
  ForBlocks(cpu, x.dim(0), RowBlock(4 * channels), [&](int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) {
      const float* a = x.data<float>() + r * 2 * channels;
      const float* b = a + channels;
      float* features = y.data<float>() + r * 4 * channels;
      std::copy_n(a, 2 * channels, features);
      vector.multiply(a, b, features + 2 * channels, channels);
      vector.combine(1, a, -1, b, features + 3 * channels, channels);
    }
  });
  return absl::OkStatus();
}

absl::Status BackwardCpu(Stream& stream, const Tensor& x, const Tensor& dy, Tensor& dx) {
  CpuStream& cpu = AsCpuStream(stream);
  const VectorTable& vector = cpu.vector();
  const int64_t channels = x.dim(1) / 2;
  ForBlocks(cpu, x.dim(0), RowBlock(4 * channels), [&](int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) {
      const float* a = x.data<float>() + r * 2 * channels;
      const float* slopes = dy.data<float>() + r * 4 * channels;
      const float* product = slopes + 2 * channels;
      const float* difference = slopes + 3 * channels;
      float* da = dx.data<float>() + r * 2 * channels;
      float* db = da + channels;
      vector.combine(1, slopes, 1, difference, da, channels);
      vector.multiply_add(product, a + channels, da, channels);
      vector.combine(1, slopes + channels, -1, difference, db, channels);
      vector.multiply_add(product, a, db, channels);
    }
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuPairFeatures() {
  pair_features_forward.Set(DeviceKind::kCpu, ForwardCpu);
  pair_features_backward.Set(DeviceKind::kCpu, BackwardCpu);
}

}  // namespace weft::kernels::internal
