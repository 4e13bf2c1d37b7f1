// Poisson counts without state, in double on the host.
#pragma once

#include <cstdint>

#include "kernels/random/philox.h"

namespace weft::kernels {

// A Poisson count with mean `lambda` (at most 2^32; 0 when it is not positive) at (site, primary).
// Attempt t uses the words at ordinal first_ordinal + t: inversion below a mean of 10, one attempt;
// transformed rejection with squeeze above (Hoermann 1993, "The transformed rejection method for
// generating Poisson random variables", algorithm PTRS), 1.2 attempts on average.
int64_t PoissonCount(uint64_t seed, const DrawSite& site, uint32_t primary, uint32_t first_ordinal,
                     double lambda);

}  // namespace weft::kernels
