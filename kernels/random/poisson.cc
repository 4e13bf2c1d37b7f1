#include "kernels/random/poisson.h"

#include "common/base/check.h"
#include "kernels/random/poisson_law.h"

namespace weft::kernels {

int64_t PoissonCount(uint64_t seed, const DrawSite& site, uint32_t primary, uint32_t first_ordinal,
                     double lambda) {
  constexpr double kLargestMean = 0x1p32;
  if (!(lambda > 0.0)) return 0;
  WEFT_CHECK(lambda <= kLargestMean);
  if (lambda < kInversionBelow) {
    const PhiloxWords words = Draw(seed, site, primary, first_ordinal);
    return PoissonByInversion(U53(words[0], words[1]), lambda);
  }
  const PoissonRejection rejection(lambda);
  for (uint32_t attempt = 0;; ++attempt) {
    const PhiloxWords words = Draw(seed, site, primary, first_ordinal + attempt);
    const double k = rejection.Attempt(U32(words[0]), U32(words[1]));
    if (k >= 0.0) return static_cast<int64_t>(k);
  }
}

}  // namespace weft::kernels
