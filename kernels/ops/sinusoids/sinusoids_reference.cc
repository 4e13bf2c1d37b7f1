#include <cmath>

#include "kernels/ops/operand_check.h"
#include "kernels/ops/sinusoids/sinusoids_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status SinusoidsReference(Stream& /*stream*/, const SinusoidOptions& options, Tensor& table) {
  const int64_t half = options.columns / 2;
  const bool interleaved = options.order == SinusoidOrder::kInterleaved;
  for (int64_t t = 0; t < RowsOf(table); ++t) {
    double* row = table.data<double>() + t * table.dim(-1) + options.first_column;
    for (int64_t i = 0; i < half; ++i) {
      const double exponent = -2 * static_cast<double>(i) / static_cast<double>(options.columns);
      const double angle =
          static_cast<double>(options.first_position + t) * std::pow(10000.0, exponent);
      row[interleaved ? 2 * i : i] = std::sin(angle);
      row[interleaved ? 2 * i + 1 : half + i] = std::cos(angle);
    }
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceSinusoids() { sinusoids.Set(DeviceKind::kReference, SinusoidsReference); }

}  // namespace weft::kernels::internal
