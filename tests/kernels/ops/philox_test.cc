#include "kernels/random/philox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace weft::kernels {
namespace {

// Known answers of the generator's authors.
TEST(PhiloxTest, GivesTheKnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, 0),
            (PhiloxWords{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffffffffffff),
            (PhiloxWords{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
            (PhiloxWords{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, SitesFillTheCounterAsDocumented) {
  const DrawSite site = {.tag = RandomTag::kData, .step = 5, .layer = 3, .sample = 7};
  EXPECT_EQ(Draw(11, site, 1, 2), Philox4x32({1, 2, 7 | 3U << 20, 5 | 8U << 28}, 11));
}

TEST(PhiloxTest, DrawsOfDifferentSitesDiffer) {
  std::set<PhiloxWords> seen;
  for (const RandomTag tag : {RandomTag::kInitialisation, RandomTag::kData}) {
    for (uint32_t i = 0; i < 16; ++i) {
      const DrawSite site = {.tag = tag, .step = i & 1, .layer = i >> 1 & 1, .sample = i >> 2 & 1};
      seen.insert(Draw(1, site, i >> 3, 0));
    }
  }
  EXPECT_EQ(seen.size(), 32);
}

TEST(PhiloxTest, UniformsStayInTheirIntervals) {
  EXPECT_EQ(U53(0, 0), 0);
  EXPECT_EQ(U53(0xffffffff, 0xffffffff), 1 - 0x1p-53);
  EXPECT_EQ(U24(0), 0);
  EXPECT_EQ(U24(0xffffffff), 1 - 0x1p-24F);
  EXPECT_EQ(U32(0), 0x1p-33);
  EXPECT_LT(U32(0xffffffff), 1);
}

TEST(PhiloxTest, ChoicesCoverTheirRange) {
  EXPECT_EQ(ChooseBelow(0, 0, 10), 0);
  EXPECT_EQ(ChooseBelow(0xffffffff, 0xffffffff, 10), 9);
  EXPECT_EQ(ChooseBelow(0x80000000, 0, 10), 5);
  EXPECT_EQ(ChooseBelow(0xffffffff, 0xffffffff, ~uint64_t{0}), ~uint64_t{0} - 1);
}

TEST(PhiloxTest, NormalsHaveTheMomentsOfNormals) {
  std::vector<double> values(100000);
  FillNormal(1, {}, 0, 0, absl::MakeSpan(values));
  double moments[5] = {};
  for (const double value : values) {
    for (int power = 1; power <= 4; ++power) {
      moments[power] += std::pow(value, power) / static_cast<double>(values.size());
    }
  }
  // Five standard deviations of each estimate: sqrt(var(x^p) / n), var = 1, 2, 15, 96.
  EXPECT_NEAR(moments[1], 0, 5 * std::sqrt(1 / 1e5));
  EXPECT_NEAR(moments[2], 1, 5 * std::sqrt(2 / 1e5));
  EXPECT_NEAR(moments[3], 0, 5 * std::sqrt(15 / 1e5));
  EXPECT_NEAR(moments[4], 3, 5 * std::sqrt(96 / 1e5));
}

TEST(PhiloxTest, AnyPartOfASequenceCanBeMadeAlone) {
  std::vector<double> whole(23);
  FillNormal(9, {.layer = 2}, 4, 0, absl::MakeSpan(whole));
  std::vector<double> part(10);
  FillNormal(9, {.layer = 2}, 4, 8, absl::MakeSpan(part));
  EXPECT_EQ(part, std::vector<double>(whole.begin() + 8, whole.begin() + 18));
}

}  // namespace
}  // namespace weft::kernels
