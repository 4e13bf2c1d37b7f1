#include <cmath>

#include "kernels/ops/cpu_blocks.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/sinusoids/sinusoids_table.h"

namespace weft::kernels::internal {
namespace {

constexpr int64_t kTokenBlock = 16;

// The mathematics library's functions in fp64: tables are made once and used in every pass.
absl::Status SinusoidsCpu(Stream& stream, const SinusoidOptions& options, Tensor& table) {
  const int64_t half = options.columns / 2;
  const int64_t stride = options.order == SinusoidOrder::kInterleaved ? 2 : 1;
  const int64_t cosines = options.order == SinusoidOrder::kInterleaved ? 1 : half;
  ForBlocks(AsCpuStream(stream), RowsOf(table), kTokenBlock, [&](int64_t first, int64_t count) {
    for (int64_t t = first; t < first + count; ++t) {
      float* row = table.data<float>() + t * table.dim(-1) + options.first_column;
      for (int64_t i = 0; i < half; ++i) {
        const double exponent = -2 * static_cast<double>(i) / static_cast<double>(options.columns);
        const double angle =
            static_cast<double>(options.first_position + t) * std::pow(10000.0, exponent);
        row[stride * i] = static_cast<float>(std::sin(angle));
        row[stride * i + cosines] = static_cast<float>(std::cos(angle));
      }
    }
  });
  return absl::OkStatus();
}

}  // namespace

void RegisterCpuSinusoids() { sinusoids.Set(DeviceKind::kCpu, SinusoidsCpu); }

}  // namespace weft::kernels::internal
