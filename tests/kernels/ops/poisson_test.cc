#include "kernels/random/poisson.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <vector>

namespace weft::kernels {
namespace {

constexpr DrawSite kSite = {.tag = RandomTag::kRowCounts, .step = 3, .layer = 1, .sample = 2};
constexpr int kDraws = 200000;

std::map<int64_t, int> Histogram(double lambda) {
  std::map<int64_t, int> counts;
  for (uint32_t i = 0; i < kDraws; ++i) ++counts[PoissonCount(7, kSite, i, 0, lambda)];
  return counts;
}

// Around the change of method (10) and over the whole range in use.
TEST(PoissonTest, CountsHaveTheMomentsOfPoisson) {
  for (const double lambda : {0.3, 1.0, 9.99, 10.0, 37.5, 600.0, 250000.0}) {
    double mean = 0, variance = 0, skewness = 0;
    const std::map<int64_t, int> histogram = Histogram(lambda);
    for (const auto& [k, times] : histogram) mean += static_cast<double>(k) * times / kDraws;
    for (const auto& [k, times] : histogram) {
      const double distance = static_cast<double>(k) - lambda;
      variance += distance * distance * times / kDraws;
      skewness += distance * distance * distance * times / kDraws;
    }
    // Central moments 2 to 6 of the law; five standard errors each.
    const double m2 = lambda, m3 = lambda, m4 = lambda + 3 * lambda * lambda;
    const double m6 = lambda * (1 + 25 * lambda + 15 * lambda * lambda);
    EXPECT_NEAR(mean, lambda, 5 * std::sqrt(m2 / kDraws)) << lambda;
    EXPECT_NEAR(variance, m2, 5 * std::sqrt((m4 - m2 * m2) / kDraws)) << lambda;
    EXPECT_NEAR(skewness, m3, 5 * std::sqrt((m6 - m3 * m3) / kDraws)) << lambda;
  }
}

TEST(PoissonTest, EveryCountHasItsProbability) {
  for (const double lambda : {0.5, 9.5, 10.5, 60.0}) {
    const std::map<int64_t, int> histogram = Histogram(lambda);
    for (int k = 0; k < static_cast<int>(2 * lambda) + 5; ++k) {
      const double p = std::exp(-lambda + k * std::log(lambda) - std::lgamma(k + 1.0));
      if (p * kDraws < 20) continue;  // too few to be nearly normal
      const auto found = histogram.find(k);
      const double share = found == histogram.end() ? 0.0 : found->second;
      EXPECT_NEAR(share / kDraws, p, 5 * std::sqrt(p * (1 - p) / kDraws)) << lambda << " " << k;
    }
  }
}

TEST(PoissonTest, NothingComesFromNothing) {
  for (const double lambda : {0.0, -1.0, 0.0 / 0.0}) {
    EXPECT_EQ(PoissonCount(1, kSite, 0, 0, lambda), 0);
  }
}

TEST(PoissonTest, APlaceAlwaysGivesTheSameCountAndOthersDiffer) {
  std::map<int64_t, int> seen;
  for (uint32_t primary = 0; primary < 40; ++primary) {
    const int64_t count = PoissonCount(7, kSite, primary, 5, 1e6);
    EXPECT_EQ(PoissonCount(7, kSite, primary, 5, 1e6), count);
    ++seen[count];
  }
  EXPECT_GT(seen.size(), 35);  // a standard deviation of 1000: equal ones are rare
  EXPECT_NE(PoissonCount(7, kSite, 0, 6, 1e6), PoissonCount(7, kSite, 0, 5, 1e6));
  EXPECT_NE(PoissonCount(8, kSite, 0, 5, 1e6), PoissonCount(7, kSite, 0, 5, 1e6));
}

}  // namespace
}  // namespace weft::kernels
