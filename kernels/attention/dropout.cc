#include "kernels/attention/dropout.h"

#include "absl/strings/str_cat.h"

namespace weft::kernels {

absl::Status CheckDropout(absl::string_view mechanism, const AttentionDropout& dropout,
                          int64_t batch, int64_t heads) {
  if (!dropout.on() && dropout.probability == 0.0) return absl::OkStatus();
  if (!(dropout.probability > 0.0 && dropout.probability < 1.0)) {
    return absl::InvalidArgumentError(
        absl::StrCat(mechanism, ": dropout ", dropout.probability, " is not in [0, 1)"));
  }
  const int64_t samples = (dropout.first_sequence + batch) * heads;
  if (dropout.step < 0 || dropout.step >= int64_t{1} << 28 || dropout.layer < 0 ||
      dropout.layer >= int64_t{1} << 12 || dropout.first_sequence < 0 ||
      samples > int64_t{1} << 20) {
    return absl::InvalidArgumentError(
        absl::StrCat(mechanism, ": dropout draws at step ", dropout.step, ", layer ", dropout.layer,
                     ", up to head ", samples, " of the step's batch: beyond 2^28, 2^12 or 2^20"));
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels
