// Feature maps: functions f of a query or key with M values, none of them negative, whose products
// f(q) . f(k) stand for the weights of an attention matrix. A description; the mechanisms that use
// features apply it tile by tile, so features never exist for a whole sequence.
//
// With x' = scale x of width D and the rows w of a projection W (without one, the unit vectors):
//
//   kSquare, kRelu, kElu1, kMagnitude   f_l(x) = g(w_l . x') + floor
//   kExponential                        f_l(x) = exp(level) (exp(a_l - level) + floor),
//                                       a_l = w_l . x' - |x'|^2 / 2, level = max_l a_l
//
// The exponential is Choromanski et al. 2021, "Rethinking attention with performers", section 2.3
// (with Gaussian w and scale = D^(-1/4), the mean of f_l(q) f_l(k) is exp(q . k / sqrt(D))); the
// others are section 2.2 there, and Likhosherstov et al. 2021, "Sub-linear memory: how to make
// performers SLiM", section 2. What all features of a map are multiplied by, 1/sqrt(M) say, cancels
// when attention is normalised, and is left out.
//
// Levels keep exponentials in range, and they are part of the function: f depends on its own token
// alone. (With one level for all keys of a sequence, a floor lets a token see what comes after it.)
#pragma once

#include <cstdint>

#include "absl/status/status.h"

namespace weft::kernels {

enum class Feature : uint8_t {
  kSquare,       // x^2
  kRelu,         // max(x, 0)
  kElu1,         // x + 1 above zero, exp(x) elsewhere
  kMagnitude,    // |x|
  kExponential,  // see above
};

struct FeatureMap {
  Feature feature = Feature::kSquare;
  int64_t rows = 0;         // of the projection; 0: there is none
  bool both_signs = false;  // kExponential: rows w and -w, which halves the variance at best
  double scale = 1.0;       // of the input
  double floor = 0.0;       // >= 0: added to every feature
};

// M, for inputs of width `dim`.
int64_t FeatureCount(const FeatureMap& map, int64_t dim);

// kInvalidArgument, naming the field, unless the map makes sense. `who` begins the sentence.
absl::Status CheckFeatureMap(const char* who, const FeatureMap& map);

}  // namespace weft::kernels
