#include "worker/data/generated/listops.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOkAndHolds;
using testing::StatusIs;

// The example of the Long Range Arena's description, and one of nothing but digits.
constexpr char kText[] = "( ( ( ( ( [MAX 2 ) 9 ) ( ( ( [MIN 4 ) 7 ) ] ) ) 0 ) ] )";
const std::vector<int32_t>& Tokens() {
  static const auto* tokens = new std::vector<int32_t>{12, 3, 10, 11, 5, 8, 15, 1, 15};
  return *tokens;
}

TEST(ListOpsTest, TheTextIsLeftNested) {
  EXPECT_EQ(ListOpsToText(Tokens()), kText);
  EXPECT_EQ(ListOpsToText({7}), "6");
}

TEST(ListOpsTest, TheTextReadsBack) {
  EXPECT_THAT(ListOpsFromText(kText, 2000), IsOkAndHolds(Tokens()));
  EXPECT_THAT(ListOpsFromText(" [MAX\t2 9 [MIN 4 7 ] 0 ]\r\n", 2000), IsOkAndHolds(Tokens()));
  EXPECT_THAT(ListOpsFromText(kText, 3), IsOkAndHolds(ElementsAre(12, 3, 10)));
}

TEST(ListOpsTest, AWordThatIsNoTokenIsNamed) {
  EXPECT_THAT(
      ListOpsFromText("( [MAX 2 ) 10 ]", 2000),
      StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("word 5"), HasSubstr("'10'"))));
}

TEST(ListOpsTest, EvaluatesEveryOperator) {
  const auto value = [](const std::string& text) {
    auto tokens = ListOpsFromText(text, 2000);
    EXPECT_OK(tokens);
    auto result = EvaluateListOps(*tokens);
    EXPECT_OK(result);
    return result.value_or(-1);
  };
  EXPECT_EQ(value(kText), 9);
  EXPECT_EQ(value("7"), 7);
  EXPECT_EQ(value("[MIN 4 2 8 ]"), 2);
  EXPECT_EQ(value("[MAX 4 2 8 ]"), 8);
  EXPECT_EQ(value("[SM 4 9 8 ]"), 1);
  EXPECT_EQ(value("[MED 9 1 5 ]"), 5);
  EXPECT_EQ(value("[MED 1 2 ]"), 1);      // 1.5, truncated
  EXPECT_EQ(value("[MED 9 0 4 3 ]"), 3);  // 3.5, truncated
  EXPECT_EQ(value("[SM [MAX 3 5 ] [MED 2 [MIN 9 8 ] 1 ] ]"), 7);
}

TEST(ListOpsTest, WhatIsNoWholeTreeIsRefused) {
  for (const std::vector<int32_t>& tokens : std::vector<std::vector<int32_t>>{
           {}, {15}, {12, 3}, {12, 15}, {3, 4}, {12, 3, 15, 15}, {0}, {16}}) {
    EXPECT_THAT(EvaluateListOps(tokens), StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST(ListOpsTest, GeneratedTreesAreWhatTheySay) {
  for (int64_t sample = 0; sample < 200; ++sample) {
    SampleDraws draws(1, SampleSet::kTrain, sample);
    const ListOpsTree tree = GenerateListOps(draws);
    EXPECT_THAT(EvaluateListOps(tree.tokens), IsOkAndHolds(tree.value));
    EXPECT_GT(tree.tokens.size(), 500);
    EXPECT_LT(tree.tokens.size(), 2000);
    EXPECT_THAT(ListOpsFromText(ListOpsToText(tree.tokens), 2000), IsOkAndHolds(tree.tokens));
  }
}

int DepthOf(const ListOpsTree& tree) {
  int depth = 1;
  int deepest = 1;
  for (const int32_t token : tree.tokens) {
    if (token == kListOpsClose) --depth;
    if (token >= kListOpsMin && token < kListOpsClose) deepest = std::max(deepest, ++depth);
  }
  return deepest;
}

TEST(ListOpsTest, TheLawIsThatOfTheLongRangeArena) {
  constexpr int kTrees = 20'000;
  std::array<int, 10> classes = {};
  std::array<int, 15> lengths = {};  // by hundreds from 500 on
  int64_t attempts = 0;
  int64_t tokens = 0;
  for (int64_t sample = 0; sample < kTrees; ++sample) {
    SampleDraws draws(7, SampleSet::kTrain, sample);
    int32_t tries = 0;
    const ListOpsTree tree = GenerateListOps(draws, &tries);
    attempts += tries;
    tokens += static_cast<int64_t>(tree.tokens.size());
    ++classes[static_cast<size_t>(tree.value)];
    ++lengths[tree.tokens.size() / 100 - 5];
    ASSERT_EQ(DepthOf(tree), 10) << sample;
  }
  // Expected: 100,000 accepted trees of an independent implementation. Tolerances of one
  // percentage point are at least 3.7 standard deviations of 20,000 trees; of the mean length 1 %,
  // which is 3.5.
  const std::array<double, 10> shares = {16.9, 8.9, 7.8, 8.3, 9.0, 8.8, 7.7, 7.1, 8.8, 16.8};
  for (size_t value = 0; value < 10; ++value) {
    EXPECT_NEAR(100.0 * classes[value] / kTrees, shares[value], 1.0) << value;
  }
  EXPECT_NEAR(100.0 * kTrees / static_cast<double>(attempts), 8.26, 0.25);
  EXPECT_NEAR(static_cast<double>(tokens) / kTrees, 1034, 10.34);
  EXPECT_NEAR(100.0 * lengths.front() / kTrees, 13.0, 1.0);
  EXPECT_NEAR(100.0 * lengths.back() / kTrees, 2.2, 0.5);
}

}  // namespace
}  // namespace weft::worker
