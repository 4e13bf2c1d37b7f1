#include "coordinator/archive/sqlite_step_history.h"

#include <fstream>
#include <iterator>
#include <string>

#include "tests/coordinator/archive/step_history_contract.h"
#include "tests/testing/temp_dir.h"

namespace weft::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOkAndHolds;
using ::testing::Le;
using testing::StatusIs;

class SqliteFixture {
 public:
  std::unique_ptr<StepHistory> Open(StepHistory::Options options) const {
    auto opened = SqliteStepHistory::Open((directory_.path() / "history.db").string(), options);
    EXPECT_OK(opened);
    return *std::move(opened);
  }

 private:
  testing::TempDir directory_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Sqlite, StepHistoryContract, SqliteFixture);

class SqliteStepHistoryTest : public ::testing::Test {
 protected:
  testing::TempDir directory_;
  const std::string path_ = (directory_.path() / "history.db").string();
};

TEST_F(SqliteStepHistoryTest, ADamagedFileIsNamedAndLeftAsItIs) {
  const std::string damage(3000, '?');
  std::ofstream(path_) << damage;
  EXPECT_THAT(SqliteStepHistory::Open(path_, {}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("history.db")));
  std::ifstream file(path_);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), damage);
}

TEST_F(SqliteStepHistoryTest, AFileOfALaterVersionIsRefused) {
  ASSERT_OK_AND_ASSIGN(const auto database, SqliteConnection::Open(path_));
  ASSERT_OK(database->Execute("PRAGMA user_version = 9"));
  EXPECT_THAT(SqliteStepHistory::Open(path_, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("newer version"), HasSubstr("history.db"))));
}

// Counting takes as long as the history is, and steps come many times a second.
TEST_F(SqliteStepHistoryTest, IsCountedOnlyWhenItMayBeTooLong) {
  ASSERT_OK_AND_ASSIGN(const auto history, SqliteStepHistory::Open(path_, {.max_points = 100}));
  ASSERT_OK(history->Append(kJob, Steps(1, 10)));
  // Behind its back, so that what it does next shows whether it has looked.
  ASSERT_OK_AND_ASSIGN(const auto database, SqliteConnection::Open(path_));
  ASSERT_OK(database->Execute(
      "WITH RECURSIVE more(step) AS (SELECT 11 UNION SELECT step + 1 FROM more WHERE step < 200) "
      "INSERT INTO steps SELECT 7, step, 0, x'' FROM more"));
  const auto points = [&database] { return database->QueryInt("SELECT count(*) FROM steps"); };
  ASSERT_OK(history->Append(kJob, Steps(201, 290)));
  EXPECT_THAT(points(), IsOkAndHolds(290));
  ASSERT_OK(history->Append(kJob, Steps(291, 291)));
  EXPECT_THAT(points(), IsOkAndHolds(Le(100)));
}

}  // namespace
}  // namespace weft::coordinator
