#include "worker/data/generated/tasks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/file/sha256.h"
#include "tests/testing/status_matchers.h"
#include "tests/worker/data/read_sample.h"

namespace weft::worker {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

std::unique_ptr<SampleSource> SourceOf(GeneratedTaskOr task, const GeneratedOptions& options = {}) {
  EXPECT_OK(task);
  auto source = NewGeneratedSource(*std::move(task), options);
  EXPECT_OK(source);
  return *std::move(source);
}

struct Case {
  std::string name;
  std::function<GeneratedTaskOr()> make;
  std::function<GeneratedTaskOr()> other;  // the same task with another option
  std::string digest;  // of three samples of each split under seed 7: recorded, not to be changed
};

class GeneratedTaskTest : public ::testing::TestWithParam<Case> {};

TEST_P(GeneratedTaskTest, SamplesFitTheShape) {
  const auto source = SourceOf(GetParam().make());
  for (int64_t i = 0; i < 20; ++i) {
    ExpectFitsShape(Sample(*source, Split::kTrain, i), source->shape());
  }
}

TEST_P(GeneratedTaskTest, ASampleDependsOnSeedSplitAndNumberAlone) {
  const auto source = SourceOf(GetParam().make(), {.seed = 1});
  const auto again = SourceOf(GetParam().make(), {.seed = 1});
  const auto other_seed = SourceOf(GetParam().make(), {.seed = 2});
  const auto test = SourceOf(GetParam().make(), {.seed = 1, .held_out = HeldOut::kTest});
  const ReadSample sample = Sample(*source, Split::kTrain, 3);
  Sample(*again, Split::kTrain, 9);  // what was read before does not matter
  EXPECT_EQ(Sample(*again, Split::kTrain, 3), sample);
  EXPECT_NE(Sample(*source, Split::kTrain, 4), sample);
  EXPECT_NE(Sample(*source, Split::kValidation, 3), sample);
  EXPECT_NE(Sample(*other_seed, Split::kTrain, 3), sample);
  EXPECT_EQ(Sample(*test, Split::kTrain, 3), sample);
  EXPECT_NE(Sample(*test, Split::kValidation, 3), Sample(*source, Split::kValidation, 3));
}

TEST_P(GeneratedTaskTest, NeverChanges) {
  const auto source = SourceOf(GetParam().make(), {.seed = 7});
  Sha256 hash;
  for (const Split split : {Split::kTrain, Split::kValidation}) {
    for (int64_t i = 0; i < 3; ++i) {
      const ReadSample sample = Sample(*source, split, i);
      for (const int32_t token : sample.tokens) hash.UpdateInteger(static_cast<uint64_t>(token));
      for (const int32_t target : sample.targets) hash.UpdateInteger(static_cast<uint64_t>(target));
    }
  }
  EXPECT_EQ(hash.Finish().substr(0, 16), GetParam().digest);
}

TEST_P(GeneratedTaskTest, TheFingerprintCoversWhatDecidesTheSamples) {
  std::set<std::string> fingerprints;
  for (const auto& source :
       {SourceOf(GetParam().make()), SourceOf(GetParam().other()),
        SourceOf(GetParam().make(), {.seed = 1}), SourceOf(GetParam().make(), {.train_samples = 5}),
        SourceOf(GetParam().make(), {.held_out = HeldOut::kTest})}) {
    fingerprints.insert(source->fingerprint());
  }
  EXPECT_EQ(fingerprints.size(), 5);
  EXPECT_EQ(SourceOf(GetParam().make())->fingerprint(), SourceOf(GetParam().make())->fingerprint());
}

INSTANTIATE_TEST_SUITE_P(
    All, GeneratedTaskTest,
    ::testing::Values(
        Case{"Copying", [] { return NewCopyingTask(15, {.symbols = 9}); },
             [] { return NewCopyingTask(15, {.symbols = 9, .predict_separator = true}); },
             "f2bf38a0d1323b6c"},
        Case{"SelectiveCopying",
             [] { return NewSelectiveCopyingTask(24, {.symbols = 5, .data_tokens = 6}); },
             [] { return NewSelectiveCopyingTask(24, {.symbols = 5, .data_tokens = 7}); },
             "9bc64ef722e6ecb1"},
        Case{"InductionHeads", [] { return NewInductionHeadsTask(12, {.symbols = 7}); },
             [] { return NewInductionHeadsTask(12, {.symbols = 8}); }, "8a8a5c171f46c165"},
        Case{"Recall", [] { return NewRecallTask(32, {.vocabulary = 64, .pairs = 4}); },
             [] { return NewRecallTask(32, {.vocabulary = 64, .pairs = 4, .gap_exponent = 0.5}); },
             "f46aaf0c8f4d4875"},
        Case{"RepeatedTokens", [] { return NewRepeatedTokensTask(10, {.symbols = 20}); },
             [] { return NewRepeatedTokensTask(10, {.symbols = 21}); }, "bf30fa04f37f537e"},
        Case{"ListOps", [] { return NewListOpsTask(2048, {.max_tokens = 2000}); },
             [] { return NewListOpsTask(2048, {.max_tokens = 2048}); }, "5deefc51146db729"}),
    [](const auto& each) { return each.param.name; });

TEST(GeneratedSourceTest, HasTheNumberOfSamplesAskedFor) {
  const auto source = SourceOf(NewCopyingTask(3, {}), {.train_samples = 1000});
  EXPECT_EQ(source->sample_count(Split::kTrain), 1000);
  EXPECT_GE(source->sample_count(Split::kValidation), 1 << 20);
  EXPECT_THAT(source->Describe(), HasSubstr("copying of 255 symbols"));
  for (const int64_t samples : {int64_t{0}, GeneratedOptions::kEndless + 1}) {
    auto task = NewCopyingTask(3, {});
    EXPECT_THAT(NewGeneratedSource(*std::move(task), {.train_samples = samples}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("train_samples")));
  }
}

TEST(CopyingTest, TheSecondHalfRepeatsTheFirst) {
  const auto source = SourceOf(NewCopyingTask(11, {.symbols = 255}));
  EXPECT_EQ(source->shape(),
            (SampleShape{.sequence = 11, .vocabulary = 256, .classes = 256, .real_targets = 5}));
  const ReadSample sample = Sample(*source, Split::kTrain, 0);
  // 0 w 0 w with five symbols in w: twelve tokens, the last of them a target only.
  std::vector<int32_t> text = sample.tokens;
  text.push_back(sample.targets.back());
  EXPECT_EQ(text[0], 0);
  EXPECT_TRUE(std::equal(text.begin(), text.begin() + 6, text.begin() + 6));
  EXPECT_EQ(std::count(text.begin(), text.end(), 0), 2);
  for (size_t i = 0; i < 11; ++i) EXPECT_EQ(sample.targets[i], i < 6 ? -1 : text[i + 1]) << i;
}

TEST(CopyingTest, TheSeparatorCountsWhenAskedFor) {
  const auto source = SourceOf(NewCopyingTask(11, {.symbols = 9, .predict_separator = true}));
  const ReadSample sample = Sample(*source, Split::kTrain, 0);
  EXPECT_EQ(sample.targets[4], -1);
  EXPECT_EQ(sample.targets[5], 0);
  EXPECT_EQ(std::count(sample.targets.begin(), sample.targets.end(), -1), 5);
}

TEST(CopyingTest, SymbolsAreUniform) {
  const auto source = SourceOf(NewCopyingTask(511, {.symbols = 8}));
  std::map<int32_t, int> counts;
  constexpr int kSamples = 200;
  for (int64_t i = 0; i < kSamples; ++i) {
    const ReadSample sample = Sample(*source, Split::kTrain, i);
    for (size_t t = 1; t < 256; ++t) ++counts[sample.tokens[t]];
  }
  // 51,000 symbols, 6375 each; standard deviation 74.7.
  EXPECT_EQ(counts.size(), 8);
  for (int32_t symbol = 1; symbol <= 8; ++symbol) EXPECT_NEAR(counts[symbol], 6375, 4.5 * 74.7);
}

TEST(CopyingTest, RefusesWhatDoesNotFit) {
  for (const int64_t sequence : {1, 2, 512}) {
    EXPECT_THAT(NewCopyingTask(sequence, {}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("must be odd")));
  }
  for (const int32_t symbols : {0, -1, (1 << 20) + 1}) {
    EXPECT_THAT(NewCopyingTask(7, {.symbols = symbols}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("symbols")));
  }
}

TEST(SelectiveCopyingTest, TheTargetsAreTheSymbolsInOrder) {
  const auto source = SourceOf(NewSelectiveCopyingTask(40, {.symbols = 14, .data_tokens = 16}));
  EXPECT_EQ(source->shape().vocabulary, 16);
  std::map<size_t, int> places;
  for (int64_t i = 0; i < 600; ++i) {
    const ReadSample sample = Sample(*source, Split::kTrain, i);
    std::vector<int32_t> symbols;
    for (size_t t = 0; t < 24; ++t) {
      EXPECT_EQ(sample.targets[t], -1);
      EXPECT_LE(sample.tokens[t], 14);
      if (sample.tokens[t] == 0) continue;
      symbols.push_back(sample.tokens[t]);
      ++places[t];
    }
    ASSERT_EQ(symbols.size(), 16);
    for (size_t t = 0; t < 16; ++t) {
      EXPECT_EQ(sample.tokens[24 + t], 15);
      EXPECT_EQ(sample.targets[24 + t], symbols[t]);
    }
  }
  // Each place holds a symbol in two of three samples: 400, standard deviation 11.5.
  for (size_t t = 0; t < 24; ++t) EXPECT_NEAR(places[t], 400, 4.5 * 11.5) << t;
}

TEST(SelectiveCopyingTest, RefusesWhatDoesNotFit) {
  EXPECT_OK(NewSelectiveCopyingTask(8, {.symbols = 1, .data_tokens = 4}));
  EXPECT_THAT(NewSelectiveCopyingTask(8, {.symbols = 1, .data_tokens = 5}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 to 4")));
  EXPECT_THAT(NewSelectiveCopyingTask(8, {.symbols = 1, .data_tokens = 0}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("data_tokens")));
  EXPECT_THAT(NewSelectiveCopyingTask(8, {.symbols = 0, .data_tokens = 1}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("symbols")));
}

TEST(InductionHeadsTest, TheTargetIsWhatFollowedTheFirstZero) {
  const auto source = SourceOf(NewInductionHeadsTask(12, {.symbols = 15}));
  std::map<size_t, int> places;
  for (int64_t i = 0; i < 1000; ++i) {
    const ReadSample sample = Sample(*source, Split::kTrain, i);
    const auto zero = static_cast<size_t>(std::find(sample.tokens.begin(), sample.tokens.end(), 0) -
                                          sample.tokens.begin());
    ++places[zero];
    EXPECT_EQ(std::count(sample.tokens.begin(), sample.tokens.end(), 0), 2);
    EXPECT_EQ(sample.tokens.back(), 0);
    EXPECT_EQ(sample.targets.back(), sample.tokens[zero + 1]);
    EXPECT_EQ(std::count(sample.targets.begin(), sample.targets.end(), -1), 11);
  }
  // Ten places, 100 each; standard deviation 9.5.
  EXPECT_EQ(places.size(), 10);
  for (const auto& [place, count] : places) EXPECT_NEAR(count, 100, 4.5 * 9.5) << place;
}

TEST(InductionHeadsTest, RefusesWhatDoesNotFit) {
  EXPECT_OK(NewInductionHeadsTask(3, {}));
  EXPECT_THAT(NewInductionHeadsTask(2, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least 3")));
}

TEST(RecallTest, EachKeyComesBackOnceWithItsValueAsTarget) {
  const auto source = SourceOf(NewRecallTask(64, {.vocabulary = 100, .pairs = 12}));
  for (int64_t i = 0; i < 100; ++i) {
    const ReadSample sample = Sample(*source, Split::kTrain, i);
    std::map<int32_t, int32_t> value_of;
    std::set<int32_t> values;
    for (size_t pair = 0; pair < 12; ++pair) {
      const int32_t key = sample.tokens[2 * pair];
      const int32_t value = sample.tokens[2 * pair + 1];
      EXPECT_TRUE(key >= 1 && key < 50 && value >= 50) << key << ' ' << value;
      value_of[key] = value;
      values.insert(value);
    }
    ASSERT_EQ(value_of.size(), 12);
    ASSERT_EQ(values.size(), 12);
    std::set<int32_t> asked;
    for (size_t t = 0; t < 64; ++t) {
      if (t < 24 || t % 2 == 1 || sample.tokens[t] == 0) {
        EXPECT_EQ(sample.targets[t], -1);
        EXPECT_TRUE(t < 24 || sample.tokens[t] == 0);
        continue;
      }
      EXPECT_EQ(sample.targets[t], value_of.at(sample.tokens[t]));
      asked.insert(sample.tokens[t]);
    }
    EXPECT_EQ(asked.size(), 12);
  }
}

TEST(RecallTest, GapsFollowThePowerLaw) {
  // One pair, ten places with weights (g + 1)^-0.5.
  const auto source =
      SourceOf(NewRecallTask(22, {.vocabulary = 8, .pairs = 1, .gap_exponent = 0.5}));
  std::map<size_t, int> counts;
  constexpr int kSamples = 20'000;
  for (int64_t i = 0; i < kSamples; ++i) {
    const ReadSample sample = Sample(*source, Split::kTrain, i);
    for (size_t t = 2; t < 22; ++t) counts[(t - 2) / 2] += sample.targets[t] >= 0 ? 1 : 0;
  }
  double total = 0;
  for (int gap = 1; gap <= 10; ++gap) total += 1 / std::sqrt(gap);
  for (size_t gap = 0; gap < 10; ++gap) {
    const double p = 1 / std::sqrt(static_cast<double>(gap + 1)) / total;
    EXPECT_NEAR(counts[gap], kSamples * p, 4.5 * std::sqrt(kSamples * p * (1 - p))) << gap;
  }
}

TEST(RecallTest, FillerIsRandomWhenAskedFor) {
  const auto source =
      SourceOf(NewRecallTask(400, {.vocabulary = 40, .pairs = 2, .random_filler = true}));
  const ReadSample sample = Sample(*source, Split::kTrain, 0);
  const std::set<int32_t> tokens(sample.tokens.begin(), sample.tokens.end());
  EXPECT_EQ(tokens.size(), 40);
  EXPECT_EQ(std::count_if(sample.targets.begin(), sample.targets.end(),
                          [](int32_t target) { return target >= 0; }),
            2);
}

TEST(RecallTest, RefusesWhatDoesNotFit) {
  EXPECT_OK(NewRecallTask(16, {.vocabulary = 10, .pairs = 4}));
  EXPECT_THAT(NewRecallTask(15, {.vocabulary = 10, .pairs = 4}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 to 3")));
  EXPECT_THAT(NewRecallTask(16, {.vocabulary = 9, .pairs = 4}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least 10")));
  for (const double exponent : {0.0, -1.0, 1.5, std::nan("")}) {
    EXPECT_THAT(NewRecallTask(16, {.vocabulary = 10, .pairs = 4, .gap_exponent = exponent}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("gap_exponent")));
  }
}

TEST(RepeatedTokensTest, MarksTokensThatOccurElsewhere) {
  const auto source = SourceOf(NewRepeatedTokensTask(256, {}));
  EXPECT_EQ(source->shape().classes, 2);
  int64_t unique = 0;
  constexpr int64_t kSamples = 200;
  for (int64_t i = 0; i < kSamples; ++i) {
    const ReadSample sample = Sample(*source, Split::kTrain, i);
    for (size_t t = 0; t < 256; ++t) {
      const auto count = std::count(sample.tokens.begin(), sample.tokens.end(), sample.tokens[t]);
      EXPECT_EQ(sample.targets[t], count > 1 ? 1 : 0);
      unique += count == 1 ? 1 : 0;
    }
  }
  // (1 - 1/370)^255 = 0.5016 of the tokens occur once.
  EXPECT_NEAR(static_cast<double>(unique) / (kSamples * 256), 0.5016, 0.01);
}

TEST(RepeatedTokensTest, RefusesWhatDoesNotFit) {
  EXPECT_THAT(NewRepeatedTokensTask(1, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least 2")));
  EXPECT_THAT(NewRepeatedTokensTask(8, {.symbols = 0}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("symbols")));
}

TEST(ListOpsTaskTest, CutsAndPads) {
  const auto padded = SourceOf(NewListOpsTask(2048, {}));
  const auto cut = SourceOf(NewListOpsTask(600, {.max_tokens = 501}));
  EXPECT_TRUE(padded->shape().padded);
  EXPECT_EQ(padded->shape().classes, 10);
  EXPECT_EQ(padded->shape().vocabulary, 16);
  const ReadSample whole = Sample(*padded, Split::kTrain, 5);
  const ReadSample part = Sample(*cut, Split::kTrain, 5);
  const auto length = std::count(whole.valid.begin(), whole.valid.end(), 1);
  EXPECT_GT(length, 500);
  EXPECT_LT(length, 2000);
  EXPECT_EQ(whole.tokens[static_cast<size_t>(length)], 0);
  EXPECT_EQ(whole.tokens[static_cast<size_t>(length) - 1], 15);  // the closing bracket
  EXPECT_TRUE(std::equal(part.tokens.begin(), part.tokens.begin() + 501, whole.tokens.begin()));
  EXPECT_EQ(std::count(part.valid.begin(), part.valid.end(), 1), 501);
  EXPECT_EQ(part.tokens[501], 0);
  EXPECT_EQ(part.targets, whole.targets);
}

TEST(ListOpsTaskTest, RefusesWhatDoesNotFit) {
  EXPECT_THAT(NewListOpsTask(1000, {.max_tokens = 2000}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 to the length")));
  EXPECT_THAT(NewListOpsTask(1000, {.max_tokens = 0}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_tokens")));
}

}  // namespace
}  // namespace weft::worker
