#include "kernels/device/aligned_array.h"
#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/dropout/dropout_draws.h"
#include "kernels/ops/dropout/dropout_table.h"

namespace weft::kernels::internal {
namespace {

// Tokens are independent; each draws the words of its row and keeps by them.
absl::Status DropoutCpu(Stream& stream, const DropoutOptions& options, const Tensor& x, Tensor& y) {
  CpuStream& cpu = AsCpuStream(stream);
  const int64_t tokens = x.dim(1);
  const int64_t channels = x.dim(2);
  const int64_t blocks = (channels + 3) / 4;
  const auto factor = static_cast<float>(1 / (1 - options.probability));
  ForBlocks(cpu, x.dim(0) * tokens, RowBlock(channels), [&](int64_t first, int64_t count) {
    thread_local Scratch<uint32_t> scratch;
    uint32_t* ordinals = scratch.Get(5 * blocks);
    uint32_t* words = ordinals + blocks;
    for (int64_t b = 0; b < blocks; ++b) ordinals[b] = OrdinalOf(options, b);
    for (int64_t i = first; i < first + count; ++i) {
      const PhiloxWords counter =
          CounterOf(SiteOf(options, i / tokens),
                    static_cast<uint32_t>(options.first_position + i % tokens), /*ordinal=*/0);
      cpu.vector().philox(
          {.primary = counter[0], .third = counter[2], .fourth = counter[3], .key = options.seed},
          ordinals, words, blocks);
      cpu.vector().keep_from(words, LeastKept(options), factor, x.data<float>() + i * channels,
                             y.data<float>() + i * channels, channels);
    }
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuDropout() { dropout.Set(DeviceKind::kCpu, DropoutCpu); }

}  // namespace weft::kernels::internal
