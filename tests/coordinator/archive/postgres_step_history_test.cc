#include "coordinator/archive/postgres_step_history.h"

#include <sys/types.h>

#include <csignal>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coordinator/store/postgres_job_store.h"
#include "tests/coordinator/archive/step_history_contract.h"
#include "tests/testing/await.h"
#include "tests/testing/postgres_server.h"

namespace weft::coordinator {
namespace {

using ::testing::HasSubstr;
using ::weft::testing::Await;
using ::weft::testing::IsOkAndHolds;
using ::weft::testing::SharedPostgresServer;
using ::weft::testing::StatusIs;

// A database with a coordinator that leads.
class PostgresFixture {
 public:
  PostgresFixture() { Lead(); }
  std::unique_ptr<StepHistory> Open(StepHistory::Options options) const {
    auto opened = OpenPostgresStepHistory(options_, options);
    EXPECT_OK(opened);
    return *std::move(opened);
  }
  // A later term begins.
  void Lead() {
    store_.reset();
    auto opened = PostgresJobStore::Open(options_);
    EXPECT_OK(opened);
    store_ = *std::move(opened);
    EXPECT_TRUE(Await([this] { return store_->TryLead().value_or(false); }));
  }
  // Another session, behind their backs.
  [[nodiscard]] std::unique_ptr<PostgresConnection> Shell() const {
    PostgresConnection::Options options;
    options.target = options_.target;
    auto connection = PostgresConnection::Open(options);
    EXPECT_OK(connection);
    return *std::move(connection);
  }
  // Ends the sessions that keep steps.
  void EndSteps() const {
    EXPECT_OK(Shell()->QueryText(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE $1",
        PostgresValues().Text("weft-coordinator steps%")));
  }
  [[nodiscard]] const PostgresOptions& options() const { return options_; }

 private:
  const PostgresOptions options_ = [] {
    PostgresOptions options;
    options.target = SharedPostgresServer().NewDatabase();
    options.holder = "host-a";
    return options;
  }();
  std::unique_ptr<PostgresJobStore> store_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Postgres, StepHistoryContract, PostgresFixture);

class PostgresStepHistoryTest : public ::testing::Test {
 protected:
  PostgresFixture database_;
};

TEST_F(PostgresStepHistoryTest, ALaterLeaderGoesOnAndTheOneBeforeWritesNothing) {
  const auto first = database_.Open({});
  ASSERT_OK(first->Append(kJob, Steps(1, 5)));
  database_.Lead();
  const auto second = database_.Open({});
  EXPECT_EQ(second->summaries().at(kJob).last.step(), 5);
  ASSERT_OK(second->Append(kJob, Steps(6, 8)));
  EXPECT_THAT(first->Append(kJob, {Step(6, 42)}),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("another coordinator leads")));
  EXPECT_THAT(first->Delete(kJob), StatusIs(absl::StatusCode::kAborted));
  ASSERT_OK_AND_ASSIGN(const auto steps, second->Read(kJob, 0, 100, 0));
  ASSERT_EQ(steps.size(), 8U);
  EXPECT_NE(steps[5].loss(), 42);
  EXPECT_EQ(database_.Open({})->summaries().at(kJob).last.step(), 8);
}

TEST_F(PostgresStepHistoryTest, ASessionThatBreaksIsMadeAgain) {
  const auto history = database_.Open({});
  ASSERT_OK(history->Append(kJob, Steps(1, 2)));
  database_.EndSteps();
  EXPECT_FALSE(history->Append(kJob, Steps(3, 3)).ok());
  EXPECT_OK(history->Append(kJob, Steps(4, 4)));
  ASSERT_OK_AND_ASSIGN(const auto steps, history->Read(kJob, 0, 100, 0));
  EXPECT_EQ(steps.size(), 3U);
}

TEST_F(PostgresStepHistoryTest, OneWaitsForAServerThatIsSilentAndThoseBehindItDoNot) {
  PostgresOptions options = database_.options();
  options.lease = absl::Seconds(2);
  ASSERT_OK_AND_ASSIGN(const auto history, OpenPostgresStepHistory(options, {}));
  ASSERT_OK(history->Append(kJob, Steps(1, 2)));
  ASSERT_OK_AND_ASSIGN(const std::string data, database_.Shell()->QueryText("SHOW data_directory"));
  database_.EndSteps();
  EXPECT_FALSE(history->Append(kJob, Steps(3, 3)).ok());
  pid_t server = 0;
  std::ifstream(data + "/postmaster.pid") >> server;
  ASSERT_GT(server, 0);
  ASSERT_EQ(kill(server, SIGSTOP), 0);
  const absl::Time begin = absl::Now();
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(history->Append(kJob, Steps(3, 3)), StatusIs(absl::StatusCode::kUnavailable));
  }
  EXPECT_LT(absl::Now() - begin, absl::Seconds(6)) << "one connection takes two";
  ASSERT_EQ(kill(server, SIGCONT), 0);
  EXPECT_TRUE(Await([&] { return history->Append(kJob, Steps(3, 3)).ok(); }));
}

TEST_F(PostgresStepHistoryTest, ADatabaseFromBeforeThereWereStepsIsBroughtUpToDate) {
  ASSERT_OK(database_.Shell()->Execute(
      "DROP TABLE weft.steps, weft.step_summaries; UPDATE weft.meta SET schema_version = 1"));
  database_.Lead();
  EXPECT_OK(database_.Open({})->Append(kJob, Steps(1, 2)));
  EXPECT_THAT(database_.Shell()->QueryInt("SELECT schema_version FROM weft.meta"), IsOkAndHolds(2));
}

TEST_F(PostgresStepHistoryTest, WithoutAServerTheLeadMayBeLost) {
  PostgresOptions nowhere;
  nowhere.target = "host=/nowhere dbname=weft";
  EXPECT_THAT(OpenPostgresStepHistory(nowhere, {}).status(),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("cannot connect")));
}

}  // namespace
}  // namespace weft::coordinator
