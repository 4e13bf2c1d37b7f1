#include "kernels/ops/dropout/dropout_draws.h"
#include "kernels/ops/dropout/dropout_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status DropoutReference(Stream& /*stream*/, const DropoutOptions& options, const Tensor& x,
                              Tensor& y) {
  const int64_t channels = x.dim(2);
  for (int64_t row = 0; row < x.dim(0); ++row) {
    for (int64_t t = 0; t < x.dim(1); ++t) {
      for (int64_t c = 0; c < channels; ++c) {
        const PhiloxWords words =
            Draw(options.seed, SiteOf(options, row),
                 static_cast<uint32_t>(options.first_position + t), OrdinalOf(options, c / 4));
        const int64_t i = (row * x.dim(1) + t) * channels + c;
        const bool kept = words[static_cast<size_t>(c % 4)] >= LeastKept(options);
        y.data<double>()[i] = kept ? x.data<double>()[i] / (1 - options.probability) : 0;
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceDropout() { dropout.Set(DeviceKind::kReference, DropoutReference); }

}  // namespace weft::kernels::internal
