// What every StepHistory promises. A kind of history instantiates the suite with its fixture:
//   std::unique_ptr<StepHistory> Open(StepHistory::Options options);  // again, as a restart would
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "coordinator/archive/step_history.h"
#include "tests/testing/status_matchers.h"

namespace weft::coordinator {

inline constexpr JobId kJob(7);

inline v1::StepReport Step(int64_t number, double loss = 1) {
  v1::StepReport step;
  step.set_step(number);
  step.set_loss(loss);
  return step;
}

inline std::vector<v1::StepReport> Steps(int64_t first, int64_t last) {
  std::vector<v1::StepReport> steps;
  for (int64_t i = first; i <= last; ++i) steps.push_back(Step(i, 1.0 / static_cast<double>(i)));
  return steps;
}

template <class Fixture>
class StepHistoryContract : public ::testing::Test {
 protected:
  StepHistory& history() { return *history_; }
  void Reopen() {
    history_.reset();
    history_ = fixture_.Open({.max_points = 1000});
  }
  std::vector<int64_t> Numbers(int64_t after = 0, int64_t limit = 100000, int64_t max_points = 0) {
    const auto steps = history_->Read(kJob, after, limit, max_points);
    EXPECT_OK(steps);
    std::vector<int64_t> numbers;
    if (steps.ok()) {
      for (const v1::StepReport& step : *steps) numbers.push_back(step.step());
    }
    return numbers;
  }

 private:
  Fixture fixture_;
  std::unique_ptr<StepHistory> history_ = fixture_.Open({.max_points = 1000});
};
TYPED_TEST_SUITE_P(StepHistoryContract);

TYPED_TEST_P(StepHistoryContract, StepsSurviveARestartInOrder) {
  ASSERT_OK(this->history().Append(kJob, Steps(1, 3)));
  ASSERT_OK(this->history().Append(JobId(8), Steps(1, 1)));
  this->Reopen();
  ASSERT_OK(this->history().Append(kJob, Steps(4, 5)));
  EXPECT_THAT(this->Numbers(), ::testing::ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(this->Numbers(2, 2), ::testing::ElementsAre(3, 4));
}

TYPED_TEST_P(StepHistoryContract, AStepThatIsTakenAgainReplacesTheFirst) {
  ASSERT_OK(this->history().Append(kJob, Steps(1, 5)));
  ASSERT_OK(this->history().Append(kJob, {Step(3, 42)}));
  EXPECT_THAT(this->Numbers(), ::testing::ElementsAre(1, 2, 3, 4, 5));
  ASSERT_OK_AND_ASSIGN(const auto steps, this->history().Read(kJob, 2, 1, 0));
  EXPECT_EQ(steps[0].loss(), 42);
}

TYPED_TEST_P(StepHistoryContract, LateStepsFillGapsAndChangeNothingElse) {
  ASSERT_OK(this->history().Append(kJob, {Step(1, 9), Step(4, 42)}));
  ASSERT_OK(this->history().Fill(kJob, Steps(2, 4)));
  this->Reopen();
  EXPECT_THAT(this->Numbers(), ::testing::ElementsAre(1, 2, 3, 4));
  ASSERT_OK_AND_ASSIGN(const auto steps, this->history().Read(kJob, 2, 2, 0));
  EXPECT_EQ(steps[0].loss(), 1.0 / 3);
  EXPECT_EQ(steps[1].loss(), 42);
  EXPECT_EQ(this->history().summaries().at(kJob).last.loss(), 42);
}

TYPED_TEST_P(StepHistoryContract, TheSummarySurvives) {
  std::vector<v1::StepReport> steps = Steps(1, 10);
  steps[3].set_validation_loss(0.75);
  v1::StepMetric& accuracy = *steps[3].add_validation_metrics();
  accuracy.set_name("accuracy");
  accuracy.set_value(0.5);
  ASSERT_OK(this->history().Append(kJob, steps));
  ASSERT_OK(this->history().Append(kJob, Steps(5, 6)));
  this->Reopen();
  const StepHistory::Summary& summary = this->history().summaries().at(kJob);
  EXPECT_EQ(summary.first_loss, 1.0);
  EXPECT_EQ(summary.validation_loss, 0.75);
  ASSERT_EQ(summary.validation_metrics.size(), 1U);
  EXPECT_EQ(summary.validation_metrics[0].name(), "accuracy");
  EXPECT_EQ(summary.validation_metrics[0].value(), 0.5);
  EXPECT_EQ(summary.last.step(), 6);
  EXPECT_EQ(summary.furthest, 10);
}

TYPED_TEST_P(StepHistoryContract, ALongHistoryIsThinnedEvenlyAndKeepsItsEndsAndEvaluations) {
  for (int64_t i = 0; i < 50; ++i) {
    std::vector<v1::StepReport> steps = Steps(i * 100 + 1, i * 100 + 100);
    if (i == 3) steps[36].set_validation_loss(1);
    ASSERT_OK(this->history().Append(kJob, steps));
    EXPECT_LE(this->Numbers().size(), 1000U);
  }
  const std::vector<int64_t> numbers = this->Numbers();
  EXPECT_THAT(numbers, ::testing::SizeIs(::testing::Ge(500U)));
  EXPECT_EQ(numbers.front(), 1);
  EXPECT_EQ(numbers.back(), 5000);
  EXPECT_THAT(numbers, ::testing::Contains(337));
  int64_t widest = 0;
  for (size_t i = 1; i < numbers.size(); ++i) {
    widest = std::max(widest, numbers[i] - numbers[i - 1]);
  }
  EXPECT_LE(widest, 16);  // 5,000 steps in at least 500 points, in powers of two
}

TYPED_TEST_P(StepHistoryContract, ReadsEvenlySpreadPoints) {
  ASSERT_OK(this->history().Append(kJob, Steps(1, 101)));
  EXPECT_THAT(this->Numbers(0, 100, 5), ::testing::ElementsAre(1, 26, 51, 76, 101));
  EXPECT_THAT(this->Numbers(26, 2, 5),
              ::testing::ElementsAre(51, 76));  // a page of the same points
  EXPECT_THAT(this->Numbers(0, 100, 1), ::testing::ElementsAre(101));
  EXPECT_THAT(this->Numbers(0, 1000, 1000), ::testing::SizeIs(101));
}

TYPED_TEST_P(StepHistoryContract, ADeletedJobLeavesNothing) {
  ASSERT_OK(this->history().Append(kJob, Steps(1, 3)));
  ASSERT_OK(this->history().Delete(kJob));
  EXPECT_THAT(this->Numbers(), ::testing::IsEmpty());
  this->Reopen();
  EXPECT_THAT(this->history().summaries(), ::testing::IsEmpty());
}

REGISTER_TYPED_TEST_SUITE_P(StepHistoryContract, StepsSurviveARestartInOrder,
                            AStepThatIsTakenAgainReplacesTheFirst,
                            LateStepsFillGapsAndChangeNothingElse, TheSummarySurvives,
                            ALongHistoryIsThinnedEvenlyAndKeepsItsEndsAndEvaluations,
                            ReadsEvenlySpreadPoints, ADeletedJobLeavesNothing);

}  // namespace weft::coordinator
