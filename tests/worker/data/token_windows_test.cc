#include "worker/data/token_windows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

// Token i is i.
class Counting : public TokenStream {
 public:
  explicit Counting(int64_t size) : size_(size) {}
  [[nodiscard]] int64_t size() const override { return size_; }
  [[nodiscard]] int32_t vocabulary() const override { return 1 << 20; }
  [[nodiscard]] const std::string& fingerprint() const override { return fingerprint_; }
  [[nodiscard]] std::string Describe() const override { return "the numbers"; }
  absl::Status Read(int64_t first, absl::Span<int32_t> into) const override {
    if (first < 0 || first + static_cast<int64_t>(into.size()) > size_) {
      return absl::OutOfRangeError("beyond the stream");
    }
    std::iota(into.begin(), into.end(), static_cast<int32_t>(first));
    return absl::OkStatus();
  }

 private:
  int64_t size_;
  std::string fingerprint_ = "f";
};

absl::StatusOr<std::unique_ptr<SampleSource>> Cut(int64_t size, int64_t sequence, double fraction) {
  return NewTokenWindows(std::make_unique<Counting>(size),
                         {.sequence = sequence, .validation_fraction = fraction});
}

std::vector<int32_t> Sample(const SampleSource& source, Split split, int64_t index) {
  const auto sequence = static_cast<size_t>(source.shape().sequence);
  std::vector<int32_t> window(sequence + 1);
  std::vector<int32_t> targets(sequence);
  EXPECT_OK(source.Read(
      split, index,
      {.tokens = absl::MakeSpan(window).first(sequence), .targets = absl::MakeSpan(targets)}));
  EXPECT_TRUE(std::equal(window.begin() + 1, window.end() - 1, targets.begin()));
  window.back() = targets.back();
  return window;
}

TEST(TokenWindowsTest, NeighboursShareOneToken) {
  ASSERT_OK_AND_ASSIGN(const auto source, Cut(11, 3, 0.0));
  EXPECT_EQ(source->sample_count(Split::kTrain), 3);
  EXPECT_EQ(source->sample_count(Split::kValidation), 0);
  EXPECT_THAT(Sample(*source, Split::kTrain, 0), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Sample(*source, Split::kTrain, 1), ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(Sample(*source, Split::kTrain, 2), ElementsAre(6, 7, 8, 9));
}

TEST(TokenWindowsTest, TargetsAreTheInputsOnePlaceOn) {
  ASSERT_OK_AND_ASSIGN(const auto source, Cut(11, 3, 0.0));
  std::vector<int32_t> inputs(3);
  std::vector<int32_t> targets(3);
  ASSERT_OK(source->Read(Split::kTrain, 1,
                         {.tokens = absl::MakeSpan(inputs), .targets = absl::MakeSpan(targets)}));
  EXPECT_THAT(inputs, ElementsAre(3, 4, 5));
  EXPECT_THAT(targets, ElementsAre(4, 5, 6));
}

TEST(TokenWindowsTest, TheShapeIsThatOfALanguageModel) {
  ASSERT_OK_AND_ASSIGN(const auto source, Cut(11, 3, 0.0));
  EXPECT_EQ(source->shape(),
            (SampleShape{.sequence = 3, .vocabulary = 1 << 20, .classes = 1 << 20}));
  EXPECT_EQ(source->shape().token_count(), 3);
  EXPECT_EQ(source->shape().target_count(), 3);
}

TEST(TokenWindowsTest, NoTokenIsInBothSplitsAndNoneIsBeyondTheEnd) {
  for (int64_t sequence : {1, 2, 3, 7}) {
    for (int64_t size = 2 * (sequence + 1); size < 80; ++size) {
      for (double fraction : {1e-9, 0.1, 0.25, 0.5}) {
        ASSERT_OK_AND_ASSIGN(const auto source, Cut(size, sequence, fraction));
        const int64_t train = source->sample_count(Split::kTrain);
        const int64_t validation = source->sample_count(Split::kValidation);
        ASSERT_GE(train, 1);
        ASSERT_GE(validation, 1);
        const int32_t last_trained = Sample(*source, Split::kTrain, train - 1).back();
        EXPECT_LT(last_trained, Sample(*source, Split::kValidation, 0).front());
        EXPECT_LT(Sample(*source, Split::kValidation, validation - 1).back(), size);
      }
    }
  }
}

TEST(TokenWindowsTest, TheValidationSplitHasTheShareAskedFor) {
  ASSERT_OK_AND_ASSIGN(const auto source, Cut(10'001, 10, 0.1));
  EXPECT_EQ(source->sample_count(Split::kTrain), 900);
  EXPECT_EQ(source->sample_count(Split::kValidation), 99);  // 1000 tokens, one only ever a target
  EXPECT_EQ(Sample(*source, Split::kValidation, 0).front(), 9001);
}

TEST(TokenWindowsTest, TheShortestPossibleDataIsAccepted) {
  ASSERT_OK(Cut(5, 4, 0.0));
  ASSERT_OK_AND_ASSIGN(const auto source, Cut(10, 4, 0.5));
  EXPECT_EQ(source->sample_count(Split::kTrain), 1);
  EXPECT_EQ(source->sample_count(Split::kValidation), 1);
}

TEST(TokenWindowsTest, DataThatIsTooShortIsRefusedWithTheNumbers) {
  EXPECT_THAT(Cut(4, 4, 0.0), StatusIs(absl::StatusCode::kInvalidArgument,
                                       AllOf(HasSubstr("the numbers"), HasSubstr("5 are needed"))));
  EXPECT_THAT(Cut(9, 4, 0.1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("10 are needed")));
  EXPECT_THAT(Cut(0, 4, 0.0), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(TokenWindowsTest, ImpossibleOptionsAreRefused) {
  for (int64_t sequence : {int64_t{0}, int64_t{-5}, int64_t{1} << 31}) {
    EXPECT_THAT(Cut(100, sequence, 0.0),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sequence")));
  }
  for (double fraction : {-0.1, 0.51, std::nan("")}) {
    EXPECT_THAT(Cut(100, 4, fraction),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("fraction")));
  }
}

TEST(TokenWindowsTest, WindowsStandAStrideApart) {
  ASSERT_OK_AND_ASSIGN(const auto source, NewTokenWindows(std::make_unique<Counting>(12),
                                                          {.sequence = 3, .stride = 4}));
  EXPECT_EQ(source->sample_count(Split::kTrain), 3);
  EXPECT_THAT(Sample(*source, Split::kTrain, 1), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(Sample(*source, Split::kTrain, 2), ElementsAre(8, 9, 10, 11));
  ASSERT_OK_AND_ASSIGN(const auto base, Cut(12, 3, 0));
  EXPECT_NE(source->fingerprint(), base->fingerprint());
  EXPECT_THAT(NewTokenWindows(std::make_unique<Counting>(12), {.sequence = 3, .stride = -1}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("stride")));
}

TEST(TokenWindowsTest, AStreamOfItsOwnMayBeHeldOut) {
  const auto make = [](int64_t validation, double fraction) {
    return NewTokenWindows({.train = std::make_shared<Counting>(100),
                            .validation = std::make_shared<Counting>(validation)},
                           {.sequence = 9, .validation_fraction = fraction});
  };
  ASSERT_OK_AND_ASSIGN(const auto source, make(28, 0.0));
  EXPECT_EQ(source->sample_count(Split::kTrain), 11);
  EXPECT_EQ(source->sample_count(Split::kValidation), 3);
  EXPECT_THAT(Sample(*source, Split::kValidation, 2).front(), 18);
  ASSERT_OK_AND_ASSIGN(const auto with_fraction, make(28, 0.5));
  EXPECT_EQ(with_fraction->sample_count(Split::kTrain), 11);
  EXPECT_THAT(make(9, 0.0), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("10 are")));
}

TEST(TokenWindowsTest, ASliceIsAStream) {
  const auto slice = SliceOf(SliceOf(std::make_shared<Counting>(100), 10, 50), 5, 20);
  EXPECT_EQ(slice->size(), 20);
  std::vector<int32_t> tokens(3);
  ASSERT_OK(slice->Read(17, absl::MakeSpan(tokens)));
  EXPECT_THAT(tokens, ElementsAre(32, 33, 34));
  EXPECT_NE(SliceOf(std::make_shared<Counting>(100), 15, 20)->fingerprint(),
            SliceOf(std::make_shared<Counting>(100), 15, 21)->fingerprint());
}

TEST(TokenWindowsTest, TheFingerprintCoversHowTheDataIsCut) {
  ASSERT_OK_AND_ASSIGN(const auto base, Cut(100, 4, 0.1));
  ASSERT_OK_AND_ASSIGN(const auto same, Cut(100, 4, 0.1));
  ASSERT_OK_AND_ASSIGN(const auto longer, Cut(100, 5, 0.1));
  ASSERT_OK_AND_ASSIGN(const auto other_split, Cut(100, 4, 0.2));
  EXPECT_EQ(base->fingerprint(), same->fingerprint());
  EXPECT_NE(base->fingerprint(), longer->fingerprint());
  EXPECT_NE(base->fingerprint(), other_split->fingerprint());
}

}  // namespace
}  // namespace weft::worker
