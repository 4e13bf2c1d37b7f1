// The integers in which graphs are drawn, without the draws (sampling_law.h, which says what the
// letters mean): the same functions for the host and for GPUs. Private to kernels/attention/sbm.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/random/host_device.h"

namespace weft::kernels {

inline constexpr double kMembershipUnit = 0x1p20;
inline constexpr double kAffinityUnit = 0x1p32;
inline constexpr int kWeightShift = 20;            // of the sums over u
inline constexpr double kIntensityUnit = 0x1p-52;  // of P_ij
inline constexpr int kKeyBits = 11;                // keys up to 2^11 need no shortening

// Whether a query of kExact visits all its keys: where thinning would need too large an intensity,
// and where `candidates` are expected to cost more than `keys` visits.
inline constexpr double kLargestThinned = 0.95;
WEFT_HOST_DEVICE inline bool VisitsAll(double largest, double candidates, int64_t keys) {
  return largest > kLargestThinned || candidates > 0.125 * static_cast<double>(keys);
}

// Inside [0, 1], in multiples of 1 / unit; NaN becomes 0.
WEFT_HOST_DEVICE inline double InUnits(double x, double unit) {
  if (!(x > 0.0)) return 0.0;
  return x >= 1.0 ? unit : std::rint(x * unit);
}

// By how many bits sums over `keys` keys are shortened.
WEFT_HOST_DEVICE inline int Shortening(int64_t keys) {
  int bits = 0;
  while ((keys >> bits) != 0) ++bits;
  return bits > kKeyBits ? bits - kKeyBits : 0;
}

// By what the intensity of a row is multiplied so that thinning may bring it back to Bernoulli
// draws of at most `largest` = p + exploration, and what share of the distinct candidates then
// stays.
WEFT_HOST_DEVICE inline double CandidateFactor(double largest) {
  return -std::log1p(-largest) / largest;
}
WEFT_HOST_DEVICE inline double KeptShare(double p, double factor) {
  return -p / std::expm1(-factor * p);
}

// A word below it lets through a share `p` of the draws.
WEFT_HOST_DEVICE inline uint64_t WordsBelow(double p) {
  return p >= 1.0 ? uint64_t{1} << 32 : static_cast<uint64_t>(std::rint(p * 0x1p32));
}

}  // namespace weft::kernels
