#include "worker/data/generated/sample_draws.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>
#include <vector>

namespace weft::worker {
namespace {

using ::testing::ElementsAre;

TEST(SampleDrawsTest, StandAtTheirPlaceInTheCounter) {
  // sample = step * 2^20 + sample; the validation set is layer 2; the ninth word is in block 2.
  SampleDraws draws(11, SampleSet::kValidation, (int64_t{5} << 20) + 7);
  draws.StartAttempt(3);
  for (int i = 0; i < 8; ++i) draws.Word();
  const kernels::DrawSite site = {
      .tag = kernels::RandomTag::kData, .step = 5, .layer = 2, .sample = 7};
  const kernels::PhiloxWords expected = kernels::Draw(11, site, 2, 3);
  EXPECT_EQ(draws.Word(), expected[0]);
  EXPECT_EQ(draws.Word(), expected[1]);
}

TEST(SampleDrawsTest, AnAttemptBeginsAnew) {
  SampleDraws draws(1, SampleSet::kTrain, 0);
  const uint32_t first = draws.Word();
  draws.Word();
  draws.StartAttempt(1);
  const uint32_t second = draws.Word();
  draws.StartAttempt(0);
  EXPECT_EQ(draws.Word(), first);
  EXPECT_NE(first, second);
}

TEST(SampleDrawsTest, NoTwoSamplesShareTheirNumbers) {
  std::set<uint32_t> words;
  for (const uint64_t seed : {1, 2}) {
    for (const SampleSet set : {SampleSet::kTrain, SampleSet::kValidation, SampleSet::kTest}) {
      for (const int64_t sample :
           {int64_t{0}, int64_t{1}, int64_t{1} << 20, SampleDraws::kMaxSamples - 1}) {
        words.insert(SampleDraws(seed, set, sample).Word());
      }
    }
  }
  EXPECT_EQ(words.size(), 2 * 3 * 4);
}

TEST(SampleDrawsTest, BelowIsUniform) {
  SampleDraws draws(3, SampleSet::kTrain, 9);
  std::array<int, 7> counts = {};
  constexpr int kDraws = 70'000;
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(draws.Below(7))];
  // Standard deviation sqrt(n p (1 - p)) = 92.6; 4.5 of them.
  for (const int count : counts) EXPECT_NEAR(count, kDraws / 7, 4.5 * 92.6);
}

TEST(SampleDrawsTest, DistinctNumbersAreAllDifferentAndInRange) {
  SampleDraws draws(3, SampleSet::kTrain, 1);
  for (int i = 0; i < 100; ++i) {
    const std::vector<int32_t> numbers = draws.Distinct(10, 6, 4);
    EXPECT_EQ(std::set<int32_t>(numbers.begin(), numbers.end()).size(), 4);
    for (const int32_t number : numbers) {
      EXPECT_GE(number, 10);
      EXPECT_LT(number, 16);
    }
  }
  EXPECT_THAT(draws.Distinct(5, 1, 1), ElementsAre(5));
  EXPECT_THAT(draws.Distinct(5, 3, 0), ElementsAre());
}

TEST(SampleDrawsTest, EveryOrderedChoiceIsEquallyLikely) {
  SampleDraws draws(4, SampleSet::kTrain, 1);
  std::array<int, 16> counts = {};
  constexpr int kDraws = 12'000;
  for (int i = 0; i < kDraws; ++i) {
    const std::vector<int32_t> pair = draws.Distinct(0, 4, 2);
    ++counts[static_cast<size_t>(pair[0] * 4 + pair[1])];
  }
  // 12 pairs, 1000 each; standard deviation 30.3.
  for (int first = 0; first < 4; ++first) {
    for (int second = 0; second < 4; ++second) {
      EXPECT_NEAR(counts[static_cast<size_t>(first * 4 + second)], first == second ? 0 : 1000,
                  first == second ? 0 : 4.5 * 30.3);
    }
  }
}

}  // namespace
}  // namespace weft::worker
