#include "kernels/random/poisson.h"

#include <array>
#include <cmath>
#include <numbers>

#include "common/base/check.h"

namespace weft::kernels {
namespace {

constexpr double kInversionBelow = 10.0;
// Nothing lies beyond it: with a mean below 10 its probability is less than 1e-1500.
constexpr int64_t kLargestInverted = 1000;
constexpr double kLargestMean = 0x1p32;

// ln k!: a table, then Stirling's series, whose first left-out term is below 1e-12 from 10 on. Not
// lgamma, which writes a global variable.
double LogFactorial(double k) {
  static constexpr std::array<double, 10> kFactorials = {1,   1,   2,    6,     24,
                                                         120, 720, 5040, 40320, 362880};
  if (k < 10.0) return std::log(kFactorials[static_cast<size_t>(k)]);
  const double r = 1.0 / k;
  const double square = r * r;
  const double series =
      r * (1.0 / 12 - square * (1.0 / 360 - square * (1.0 / 1260 - square / 1680)));
  return (k + 0.5) * std::log(k) - k + 0.5 * std::log(2.0 * std::numbers::pi) + series;
}

int64_t ByInversion(double uniform, double lambda) {
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

// The constants of algorithm PTRS for one mean.
struct Rejection {
  explicit Rejection(double mean)
      : lambda(mean),
        b(0.931 + 2.53 * std::sqrt(mean)),
        a(-0.059 + 0.02483 * b),
        inverse_alpha(1.1239 + 1.1328 / (b - 3.4)),
        squeeze(0.9277 - 3.6224 / (b - 2.0)),
        log_lambda(std::log(mean)) {}

  // The count that two uniforms in (0, 1) give, or -1 when they are rejected.
  [[nodiscard]] double Attempt(double first, double second) const {
    const double u = first - 0.5;
    const double margin = 0.5 - std::abs(u);
    const double k = std::floor((2.0 * a / margin + b) * u + lambda + 0.43);
    if (margin >= 0.07 && second <= squeeze) return k;
    if (k < 0.0 || (margin < 0.013 && second > margin)) return -1.0;
    const double left = std::log(second * inverse_alpha / (a / (margin * margin) + b));
    return left <= -lambda + k * log_lambda - LogFactorial(k) ? k : -1.0;
  }

  double lambda, b, a, inverse_alpha, squeeze, log_lambda;
};

}  // namespace

int64_t PoissonCount(uint64_t seed, const DrawSite& site, uint32_t primary, uint32_t first_ordinal,
                     double lambda) {
  if (!(lambda > 0.0)) return 0;
  WEFT_CHECK(lambda <= kLargestMean);
  if (lambda < kInversionBelow) {
    const PhiloxWords words = Draw(seed, site, primary, first_ordinal);
    return ByInversion(U53(words[0], words[1]), lambda);
  }
  const Rejection rejection(lambda);
  for (uint32_t attempt = 0;; ++attempt) {
    const PhiloxWords words = Draw(seed, site, primary, first_ordinal + attempt);
    const double k = rejection.Attempt(U32(words[0]), U32(words[1]));
    if (k >= 0.0) return static_cast<int64_t>(k);
  }
}

}  // namespace weft::kernels
