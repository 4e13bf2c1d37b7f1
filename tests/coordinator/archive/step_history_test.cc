#include "coordinator/archive/step_history.h"

#include <fstream>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace weft::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using ::testing::SizeIs;
using testing::StatusIs;

constexpr JobId kJob(7);

v1::StepReport Step(int64_t number, double loss = 1) {
  v1::StepReport step;
  step.set_step(number);
  step.set_loss(loss);
  return step;
}

std::vector<v1::StepReport> Steps(int64_t first, int64_t last) {
  std::vector<v1::StepReport> steps;
  for (int64_t i = first; i <= last; ++i) steps.push_back(Step(i, 1.0 / static_cast<double>(i)));
  return steps;
}

class StepHistoryTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(); }
  void Open(int64_t max_points = 1000) {
    history_.reset();
    ASSERT_OK_AND_ASSIGN(history_, StepHistory::Open(path_, {.max_points = max_points}));
  }
  std::vector<int64_t> Numbers(int64_t after = 0, int64_t limit = 100000, int64_t max_points = 0) {
    const auto steps = history_->Read(kJob, after, limit, max_points);
    EXPECT_THAT(steps, IsOk());
    std::vector<int64_t> numbers;
    if (steps.ok()) {
      for (const v1::StepReport& step : *steps) numbers.push_back(step.step());
    }
    return numbers;
  }

  testing::TempDir directory_;
  const std::string path_ = (directory_.path() / "history.db").string();
  std::unique_ptr<StepHistory> history_;
};

TEST_F(StepHistoryTest, StepsSurviveARestartInOrder) {
  ASSERT_OK(history_->Append(kJob, Steps(1, 3)));
  ASSERT_OK(history_->Append(JobId(8), Steps(1, 1)));
  Open();
  ASSERT_OK(history_->Append(kJob, Steps(4, 5)));
  EXPECT_THAT(Numbers(), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(Numbers(2, 2), ElementsAre(3, 4));
}

TEST_F(StepHistoryTest, AStepThatIsTakenAgainReplacesTheFirst) {
  ASSERT_OK(history_->Append(kJob, Steps(1, 5)));
  ASSERT_OK(history_->Append(kJob, {Step(3, 42)}));
  EXPECT_THAT(Numbers(), ElementsAre(1, 2, 3, 4, 5));
  ASSERT_OK_AND_ASSIGN(const auto steps, history_->Read(kJob, 2, 1, 0));
  EXPECT_EQ(steps[0].loss(), 42);
}

TEST_F(StepHistoryTest, TheSummarySurvives) {
  std::vector<v1::StepReport> steps = Steps(1, 10);
  steps[3].set_validation_loss(0.75);
  v1::StepMetric& accuracy = *steps[3].add_validation_metrics();
  accuracy.set_name("accuracy");
  accuracy.set_value(0.5);
  ASSERT_OK(history_->Append(kJob, steps));
  ASSERT_OK(history_->Append(kJob, Steps(5, 6)));
  Open();
  const StepHistory::Summary& summary = history_->summaries().at(kJob);
  EXPECT_EQ(summary.first_loss, 1.0);
  EXPECT_EQ(summary.validation_loss, 0.75);
  ASSERT_EQ(summary.validation_metrics.size(), 1U);
  EXPECT_EQ(summary.validation_metrics[0].name(), "accuracy");
  EXPECT_EQ(summary.validation_metrics[0].value(), 0.5);
  EXPECT_EQ(summary.last.step(), 6);
  EXPECT_EQ(summary.furthest, 10);
}

TEST_F(StepHistoryTest, ALongHistoryIsThinnedEvenlyAndKeepsItsEndsAndEvaluations) {
  for (int64_t i = 0; i < 50; ++i) {
    std::vector<v1::StepReport> steps = Steps(i * 100 + 1, i * 100 + 100);
    if (i == 3) steps[36].set_validation_loss(1);
    ASSERT_OK(history_->Append(kJob, steps));
    EXPECT_LE(Numbers().size(), 1000U);
  }
  const std::vector<int64_t> numbers = Numbers();
  EXPECT_THAT(numbers, SizeIs(::testing::Ge(500U)));
  EXPECT_EQ(numbers.front(), 1);
  EXPECT_EQ(numbers.back(), 5000);
  EXPECT_THAT(numbers, Contains(337));
  int64_t widest = 0;
  for (size_t i = 1; i < numbers.size(); ++i) {
    widest = std::max(widest, numbers[i] - numbers[i - 1]);
  }
  EXPECT_LE(widest, 16);  // 5,000 steps in at least 500 points, in powers of two
}

TEST_F(StepHistoryTest, ReadsEvenlySpreadPoints) {
  ASSERT_OK(history_->Append(kJob, Steps(1, 101)));
  EXPECT_THAT(Numbers(0, 100, 5), ElementsAre(1, 26, 51, 76, 101));
  EXPECT_THAT(Numbers(26, 2, 5), ElementsAre(51, 76));  // a page of the same points
  EXPECT_THAT(Numbers(0, 100, 1), ElementsAre(101));
  EXPECT_THAT(Numbers(0, 1000, 1000), SizeIs(101));
}

TEST_F(StepHistoryTest, ADeletedJobLeavesNothing) {
  ASSERT_OK(history_->Append(kJob, Steps(1, 3)));
  ASSERT_OK(history_->Delete(kJob));
  EXPECT_THAT(Numbers(), IsEmpty());
  Open();
  EXPECT_THAT(history_->summaries(), IsEmpty());
}

TEST_F(StepHistoryTest, ADamagedFileIsNamedAndLeftAsItIs) {
  history_.reset();
  const std::string damage(3000, '?');
  const std::string path = (directory_.path() / "damaged.db").string();
  std::ofstream(path) << damage;
  EXPECT_THAT(StepHistory::Open(path, {}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("damaged.db")));
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), damage);
}

TEST_F(StepHistoryTest, AFileOfALaterVersionIsRefused) {
  history_.reset();
  ASSERT_OK_AND_ASSIGN(const auto database, SqliteConnection::Open(path_));
  ASSERT_OK(database->Execute("PRAGMA user_version = 9"));
  EXPECT_THAT(StepHistory::Open(path_, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("newer version"), HasSubstr("history.db"))));
}

}  // namespace
}  // namespace weft::coordinator
