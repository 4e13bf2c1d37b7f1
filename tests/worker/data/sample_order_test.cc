#include "worker/data/sample_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace weft::worker {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

std::vector<int64_t> Table(const Permutation& permutation, int64_t size) {
  std::vector<int64_t> table;
  for (int64_t i = 0; i < size; ++i) table.push_back(permutation(i));
  return table;
}

// Golden numbers: a run must see the same samples with every later version. Computed by a separate
// implementation of Philox (checked against its published known answers) and of the network.
TEST(PermutationTest, NeverChanges) {
  EXPECT_THAT(Table(Permutation(1234, 0, 10), 10), ElementsAre(7, 2, 6, 8, 0, 9, 3, 1, 5, 4));
  EXPECT_THAT(Table(Permutation(1234, 1, 10), 10), ElementsAre(0, 5, 1, 3, 6, 7, 4, 8, 2, 9));
  EXPECT_THAT(Table(Permutation(0xDEADBEEF12345678, 7, 1'000'000'000'000), 4),
              ElementsAre(374'950'064'431, 511'886'262'158, 789'976'887'238, 198'067'651'352));
}

TEST(PermutationTest, TakesEveryValueOnce) {
  for (int64_t size : {1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 1000, 4097}) {
    std::vector<int64_t> table = Table(Permutation(5, 3, size), size);
    std::sort(table.begin(), table.end());
    for (int64_t i = 0; i < size; ++i) ASSERT_EQ(table[static_cast<size_t>(i)], i) << size;
  }
}

TEST(PermutationTest, StaysInTheLargestRange) {
  const int64_t size = int64_t{1} << 62;
  const Permutation permutation(9, 0, size);
  for (int64_t index : {int64_t{0}, int64_t{1}, size - 1}) {
    EXPECT_GE(permutation(index), 0);
    EXPECT_LT(permutation(index), size);
  }
}

// Where the first of 16 elements goes, over 16,000 permutations: 1000 in each place, give or take
// five standard deviations of a binomial count.
TEST(PermutationTest, PlacesAreEquallyLikely) {
  std::vector<int> counts(16);
  for (uint32_t stream = 0; stream < 16'000; ++stream) {
    ++counts[static_cast<size_t>(Permutation(77, stream, 16)(0))];
  }
  const double deviation = std::sqrt(16'000.0 * (1.0 / 16) * (15.0 / 16));
  for (int count : counts) EXPECT_NEAR(count, 1000, 5 * deviation);
}

SampleOrder Order(int64_t samples, int64_t shards, int64_t rows) {
  return SampleOrder(
      {.seed = 42, .sample_count = samples, .shards = shards, .samples_per_shard = rows});
}

std::vector<int64_t> Step(const SampleOrder& order, int64_t step, int64_t shards, int64_t rows) {
  std::vector<int64_t> samples;
  for (int64_t shard = 0; shard < shards; ++shard) {
    for (int64_t row = 0; row < rows; ++row) samples.push_back(order.Sample(step, shard, row));
  }
  return samples;
}

TEST(SampleOrderTest, NeverChanges) {
  const SampleOrder order = Order(11, 2, 2);
  EXPECT_THAT(Step(order, 0, 2, 2), ElementsAre(9, 2, 0, 3));
  EXPECT_THAT(Step(order, 1, 2, 2), ElementsAre(6, 10, 7, 4));
  EXPECT_THAT(Step(order, 2, 2, 2), ElementsAre(8, 5, 1, 3));  // the epoch ends inside this step
  EXPECT_THAT(Step(order, 3, 2, 2), ElementsAre(4, 8, 10, 2));
}

TEST(SampleOrderTest, AnEpochVisitsEverySampleOnce) {
  constexpr int64_t kSamples = 101;  // prime, so epochs end everywhere inside steps
  const SampleOrder order = Order(kSamples, 4, 3);
  std::vector<int64_t> drawn;
  for (int64_t step = 0; step < kSamples; ++step) {
    for (int64_t sample : Step(order, step, 4, 3)) drawn.push_back(sample);
  }
  ASSERT_EQ(drawn.size(), 12U * kSamples);
  std::vector<std::vector<int64_t>> epochs;
  for (size_t epoch = 0; epoch < 12; ++epoch) {
    const auto first = drawn.begin() + static_cast<int64_t>(epoch) * kSamples;
    std::vector<int> visits(kSamples);
    for (auto sample = first; sample != first + kSamples; ++sample) {
      ++visits[static_cast<size_t>(*sample)];
    }
    EXPECT_THAT(visits, Each(1)) << "epoch " << epoch;
    epochs.emplace_back(first, first + kSamples);
  }
  EXPECT_NE(epochs[0], epochs[1]);
}

// Ranks take shards as they come; whoever computes a shard, and in whatever order, gets the same
// samples. A step's batch is the same however it is cut into shards.
TEST(SampleOrderTest, DependsOnThePlaceInTheBatchAlone) {
  const SampleOrder four = Order(1000, 4, 3);
  std::vector<int64_t> backwards;
  for (int64_t shard = 3; shard >= 0; --shard) {
    for (int64_t row = 2; row >= 0; --row) backwards.push_back(four.Sample(7, shard, row));
  }
  std::reverse(backwards.begin(), backwards.end());
  EXPECT_EQ(backwards, Step(four, 7, 4, 3));
  EXPECT_EQ(Step(four, 7, 4, 3), Step(Order(1000, 6, 2), 7, 6, 2));
}

TEST(SampleOrderTest, SequentialIsOneAfterTheOther) {
  const SampleOrder order(
      {.kind = OrderKind::kSequential, .sample_count = 5, .shards = 2, .samples_per_shard = 2});
  EXPECT_THAT(Step(order, 0, 2, 2), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Step(order, 1, 2, 2), ElementsAre(4, 0, 1, 2));
}

TEST(SampleOrderTest, StreamsGoOnInEachRow) {
  const SampleOrder order(
      {.kind = OrderKind::kStreams, .sample_count = 14, .shards = 2, .samples_per_shard = 2});
  EXPECT_THAT(Step(order, 0, 2, 2), ElementsAre(0, 3, 6, 9));
  EXPECT_THAT(Step(order, 2, 2, 2), ElementsAre(2, 5, 8, 11));
  EXPECT_THAT(Step(order, 3, 2, 2), ElementsAre(0, 3, 6, 9));
  const SampleOrder few(
      {.kind = OrderKind::kStreams, .sample_count = 3, .shards = 2, .samples_per_shard = 2});
  EXPECT_THAT(Step(few, 0, 2, 2), ElementsAre(0, 1, 2, 0));
  EXPECT_THAT(Step(few, 1, 2, 2), ElementsAre(0, 1, 2, 0));
}

TEST(SampleOrderTest, CountsEpochs) {
  const SampleOrder order = Order(24, 4, 3);
  EXPECT_EQ(order.Epoch(0), 0.0);
  EXPECT_EQ(order.Epoch(1), 0.5);
  EXPECT_EQ(order.Epoch(5), 2.5);
}

TEST(ValidationSamplesTest, RunsCoverTheSplitAndDifferByAtMostOne) {
  for (int64_t samples = 0; samples < 20; ++samples) {
    for (int64_t shards = 1; shards < 8; ++shards) {
      int64_t next = 0;
      for (int64_t shard = 0; shard < shards; ++shard) {
        const SampleRange range = ValidationSamples(samples, shards, shard);
        EXPECT_EQ(range.first, next);
        EXPECT_GE(range.last - range.first, samples / shards);
        EXPECT_LE(range.last - range.first, samples / shards + 1);
        next = range.last;
      }
      EXPECT_EQ(next, samples);
    }
  }
}

}  // namespace
}  // namespace weft::worker
