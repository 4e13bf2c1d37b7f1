#include <algorithm>

#include "kernels/ops/adamw/adamw_table.h"
#include "kernels/ops/cpu_blocks.h"

namespace weft::kernels::internal {
namespace {

absl::Status AdamWCpu(Stream& stream, const AdamWOptions& options, const Tensor& gradient,
                      const Tensor& clip, Tensor& parameter, Tensor& m, Tensor& v,
                      Tensor& rounded) {
  const AdamWFactors factors = FactorsOf(options);
  CpuStream& cpu = AsCpuStream(stream);
  const float factor = clip.data<float>()[0];
  ForBlocks(cpu, parameter.count(), kElementBlock, [&](int64_t first, int64_t count) {
    cpu.vector().adamw(factors, factor, gradient.data<float>() + first,
                       parameter.data<float>() + first, m.data<float>() + first,
                       v.data<float>() + first, count);
    if (rounded.present()) {
      std::copy_n(parameter.data<float>() + first, count, rounded.data<float>() + first);
    }
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuAdamW() { adamw.Set(DeviceKind::kCpu, AdamWCpu); }

}  // namespace weft::kernels::internal
