#include "kernels/attention/features/feature_map.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace weft::kernels {

int64_t FeatureCount(const FeatureMap& map, int64_t dim) {
  return (map.rows == 0 ? dim : map.rows) * (map.both_signs ? 2 : 1);
}

absl::Status CheckFeatureMap(const char* who, const FeatureMap& map) {
  if (map.rows < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, ": features.rows ", map.rows, " is negative"));
  }
  if (map.feature == Feature::kExponential && map.rows == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, ": exponential features need a projection, features.rows is 0"));
  }
  if (map.both_signs && map.feature != Feature::kExponential) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, ": features.both_signs is for exponential features"));
  }
  if (!(map.scale > 0.0) || !std::isfinite(map.scale)) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, ": features.scale ", map.scale, " is not positive and finite"));
  }
  if (!(map.floor >= 0.0) || !std::isfinite(map.floor)) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, ": features.floor ", map.floor, " is not 0 or more and finite"));
  }
  return absl::OkStatus();
}

}  // namespace weft::kernels
