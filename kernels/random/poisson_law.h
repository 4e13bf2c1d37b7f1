// Poisson counts from uniform numbers: the arithmetic of poisson.h, for the host and for GPUs.
// Their mathematics libraries differ by ulps, so a count differs with a probability of about 1e-13.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/random/host_device.h"

namespace weft::kernels {

inline constexpr double kInversionBelow = 10.0;

// A count with a mean below kInversionBelow.
WEFT_HOST_DEVICE inline int64_t PoissonByInversion(double uniform, double lambda) {
  // Nothing lies beyond it: with such a mean its probability is less than 1e-1500.
  constexpr int64_t kLargestInverted = 1000;
  double probability = std::exp(-lambda);
  double cumulative = probability;
  int64_t k = 0;
  while (uniform >= cumulative && k < kLargestInverted) {
    ++k;
    probability *= lambda / static_cast<double>(k);
    cumulative += probability;
  }
  return k;
}

// ln k!: exact products up to 9, then Stirling's series, whose first left-out term is below 1e-12
// from 10 on. Not lgamma, which writes a global variable.
WEFT_HOST_DEVICE inline double LogFactorial(double k) {
  if (k < 10.0) {
    double factorial = 1.0;
    for (double factor = 2.0; factor <= k; factor += 1.0) factorial *= factor;
    return std::log(factorial);
  }
  constexpr double kTwoPi = 6.283185307179586;
  const double r = 1.0 / k;
  const double square = r * r;
  const double series =
      r * (1.0 / 12 - square * (1.0 / 360 - square * (1.0 / 1260 - square / 1680)));
  return (k + 0.5) * std::log(k) - k + 0.5 * std::log(kTwoPi) + series;
}

// The constants of algorithm PTRS for one mean of at least kInversionBelow.
struct PoissonRejection {
  WEFT_HOST_DEVICE explicit PoissonRejection(double mean)
      : lambda(mean),
        b(0.931 + 2.53 * std::sqrt(mean)),
        a(-0.059 + 0.02483 * b),
        inverse_alpha(1.1239 + 1.1328 / (b - 3.4)),
        squeeze(0.9277 - 3.6224 / (b - 2.0)),
        log_lambda(std::log(mean)) {}

  // The count that two uniforms in (0, 1) give, or -1 when they are rejected.
  [[nodiscard]] WEFT_HOST_DEVICE double Attempt(double first, double second) const {
    const double u = first - 0.5;
    const double margin = 0.5 - std::fabs(u);
    const double k = std::floor((2.0 * a / margin + b) * u + lambda + 0.43);
    if (margin >= 0.07 && second <= squeeze) return k;
    if (k < 0.0 || (margin < 0.013 && second > margin)) return -1.0;
    const double left = std::log(second * inverse_alpha / (a / (margin * margin) + b));
    return left <= -lambda + k * log_lambda - LogFactorial(k) ? k : -1.0;
  }

  double lambda, b, a, inverse_alpha, squeeze, log_lambda;
};

}  // namespace weft::kernels
