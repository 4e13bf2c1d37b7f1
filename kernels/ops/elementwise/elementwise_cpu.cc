#include <algorithm>
#include <cstring>

#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/elementwise/elementwise_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status FillCpu(Stream& stream, Tensor& x, double value) {
  ForBlocks(AsCpuStream(stream), x.count(), kElementBlock, [&](int64_t first, int64_t count) {
    if (x.dtype() == DType::kI32) {
      std::fill_n(x.data<int32_t>() + first, count, static_cast<int32_t>(value));
    } else {
      std::fill_n(x.data<float>() + first, count, static_cast<float>(value));
    }
  });
  return absl::OkStatus();
}

absl::Status CopyCpu(Stream& stream, const Tensor& from, Tensor& to) {
  const auto* source = static_cast<const char*>(from.address());
  auto* target = static_cast<char*>(to.address());
  ForBlocks(AsCpuStream(stream), to.bytes(), 4 * kElementBlock, [&](int64_t first, int64_t count) {
    std::memcpy(target + first, source + first, static_cast<size_t>(count));
  });
  return absl::OkStatus();
}

absl::Status AddCpu(Stream& stream, const Tensor& a, const Tensor& b, Tensor& out) {
  CpuStream& cpu = AsCpuStream(stream);
  ForBlocks(cpu, out.count(), kElementBlock, [&](int64_t first, int64_t count) {
    cpu.vector().add(a.data<float>() + first, b.data<float>() + first, out.data<float>() + first,
                     count);
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuElementwise() {
  fill.Set(DeviceKind::kCpu, FillCpu);
  copy.Set(DeviceKind::kCpu, CopyCpu);
  add.Set(DeviceKind::kCpu, AddCpu);
}

}  // namespace weft::kernels::internal
