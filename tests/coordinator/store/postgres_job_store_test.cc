#include "coordinator/store/postgres_job_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coordinator/store/postgres_election.h"
#include "tests/coordinator/store/job_store_contract.h"
#include "tests/testing/await.h"
#include "tests/testing/postgres_server.h"
#include "tests/testing/temp_dir.h"

namespace weft::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::weft::testing::Await;
using ::weft::testing::IsOkAndHolds;
using ::weft::testing::SharedPostgresServer;
using ::weft::testing::StatusIs;
using ::weft::testing::TempDir;

PostgresOptions On(const std::string& target, const std::string& holder = "host-a") {
  PostgresOptions options;
  options.target = target;
  options.holder = holder;
  return options;
}

class PostgresFixture {
 public:
  PostgresFixture() { Reopen(); }
  JobStore& store() { return *store_; }
  void Reopen() {
    store_.reset();
    auto opened = PostgresJobStore::Open(On(target_));
    EXPECT_OK(opened);
    store_ = *std::move(opened);
    // The server notices a moment later that the session before this one has ended.
    EXPECT_TRUE(Await([this] {
      const auto leads = store_->TryLead();
      EXPECT_OK(leads);
      return leads.ok() && *leads;
    }));
  }

 private:
  const std::string target_ = SharedPostgresServer().NewDatabase();
  std::unique_ptr<PostgresJobStore> store_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Postgres, JobStoreContract, PostgresFixture);

class PostgresJobStoreTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<PostgresJobStore>> Open(const std::string& holder = "host-a") {
    return PostgresJobStore::Open(On(target_, holder));
  }
  // Opens and leads.
  std::unique_ptr<PostgresJobStore> Leader(PostgresOptions options) {
    auto store = PostgresJobStore::Open(std::move(options));
    EXPECT_OK(store);
    EXPECT_TRUE(Await([&] {
      const auto leads = (*store)->TryLead();
      return leads.ok() && *leads;
    }));
    return *std::move(store);
  }
  std::unique_ptr<PostgresJobStore> Leader() { return Leader(On(target_)); }
  // Another session, behind the stores' backs.
  std::unique_ptr<PostgresConnection> Shell() {
    PostgresConnection::Options options;
    options.target = target_;
    auto connection = PostgresConnection::Open(options);
    EXPECT_OK(connection);
    return *std::move(connection);
  }
  static Fact Job(int64_t id) {
    JobRequest request = CpuJob("job");
    request.spec = SharedBytes(std::string("\0spec\xff", 6));
    return JobAdded{JobId(id), request, absl::FromUnixSeconds(id)};
  }

  const std::string target_ = SharedPostgresServer().NewDatabase();
};

TEST_F(PostgresJobStoreTest, OneLeadsAndTheOthersKnowWho) {
  const auto first = Leader();
  ASSERT_OK_AND_ASSIGN(const auto second, Open("host-b"));
  EXPECT_THAT(second->TryLead(), IsOkAndHolds(false));
  EXPECT_THAT(second->leader(), IsOkAndHolds("host-a"));
}

TEST_F(PostgresJobStoreTest, TheLeadIsFreeWhenItsSessionEndsAndNothingCommittedIsLost) {
  auto first = Leader();
  ASSERT_OK(first->Commit(StoreVersion(), {Job(1)}));
  ASSERT_OK_AND_ASSIGN(const auto second, Open("host-b"));
  ASSERT_THAT(second->TryLead(), IsOkAndHolds(false));
  first.reset();
  ASSERT_TRUE(Await([&] { return *second->TryLead(); }));
  ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, second->Load());
  EXPECT_EQ(loaded.version, StoreVersion(1));
  EXPECT_EQ(loaded.state.jobs.size(), 1U);
  EXPECT_OK(second->Commit(loaded.version, {Job(2)}));
}

TEST_F(PostgresJobStoreTest, ALeaderWhoseSessionWasEndedCanCommitNothing) {
  const auto first = Leader();
  ASSERT_OK(first->Commit(StoreVersion(), {Job(1)}));
  ASSERT_OK(Shell()->QueryText(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE $1",
      PostgresValues().Text("weft-coordinator host-a")));
  const auto second = Leader();
  // Nobody has committed since: only the session tells the two apart.
  EXPECT_THAT(first->Commit(StoreVersion(1), {Job(2)}),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("another coordinator may lead")));
  EXPECT_THAT(first->Renew(), StatusIs(absl::StatusCode::kAborted));
  ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, second->Load());
  EXPECT_EQ(loaded.version, StoreVersion(1));
}

TEST_F(PostgresJobStoreTest, ASilentLeaderLosesItsSessionAfterTheLease) {
  PostgresOptions brief = On(target_);
  brief.lease = absl::Seconds(1);
  const auto first = Leader(brief);
  ASSERT_OK(first->Commit(StoreVersion(), {Job(1)}));
  // A stopped process keeps its connection, and says nothing on it.
  const absl::Time begin = absl::Now();
  const auto second = Leader(On(target_, "host-b"));
  EXPECT_GT(absl::Now() - begin, absl::Milliseconds(900));
  EXPECT_THAT(first->Commit(StoreVersion(1), {Job(2)}), StatusIs(absl::StatusCode::kAborted));
  ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, second->Load());
  EXPECT_EQ(loaded.version, StoreVersion(1));
}

TEST_F(PostgresJobStoreTest, ALeaderThatRenewsKeepsTheLead) {
  PostgresOptions brief = On(target_);
  brief.lease = absl::Seconds(1);
  const auto first = Leader(brief);
  ASSERT_OK_AND_ASSIGN(const auto second, Open("host-b"));
  const absl::Time end = absl::Now() + 2 * brief.lease;
  while (absl::Now() < end) {
    ASSERT_OK(first->Renew());
    ASSERT_THAT(second->TryLead(), IsOkAndHolds(false));
  }
}

// Without the session: what the term in each transaction is for.
TEST_F(PostgresJobStoreTest, ALaterTermFencesTheOneBeforeAtTheSameVersion) {
  const auto first = Leader();
  ASSERT_OK(first->Commit(StoreVersion(), {Job(1)}));
  ASSERT_OK(Shell()->Execute("UPDATE weft.meta SET term = term + 1"));
  EXPECT_THAT(first->Commit(StoreVersion(1), {Job(2)}),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("another coordinator writes")));
  EXPECT_THAT(Shell()->QueryInt("SELECT count(*) FROM weft.facts"), IsOkAndHolds(1));
}

TEST_F(PostgresJobStoreTest, AFencedCommitLeavesTheSessionUsable) {
  const auto first = Leader();
  EXPECT_THAT(first->Commit(StoreVersion(7), {Job(1)}), StatusIs(absl::StatusCode::kAborted));
  EXPECT_OK(first->Renew());
  EXPECT_OK(first->Commit(StoreVersion(), {Job(1)}));
}

TEST_F(PostgresJobStoreTest, ACrashOfTheServerEndsTheLeadAndLosesNothing) {
  auto first = Leader();
  ASSERT_OK_AND_ASSIGN(const StoreVersion version, first->Commit(StoreVersion(), {Job(1)}));
  SharedPostgresServer().Kill();
  EXPECT_THAT(first->Commit(version, {Job(2)}), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("cannot connect")));
  SharedPostgresServer().Start();
  EXPECT_THAT(first->Commit(version, {Job(2)}), StatusIs(absl::StatusCode::kAborted))
      << "it never connects again by itself";
  first = Leader();
  ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, first->Load());
  EXPECT_EQ(loaded.version, version);
  EXPECT_EQ(loaded.state.jobs.size(), 1U);
}

TEST_F(PostgresJobStoreTest, ALargeCommitIsOneTransaction) {
  const auto store = Leader();
  std::vector<Fact> facts;
  for (int64_t id = 1; id <= 3000; ++id) {
    JobRequest request = CpuJob("job");
    request.spec = SharedBytes(std::string(4000, 'x'));
    facts.emplace_back(JobAdded{JobId(id), request, absl::FromUnixSeconds(id)});
  }
  ASSERT_OK_AND_ASSIGN(const StoreVersion version, store->Commit(StoreVersion(), facts));
  EXPECT_EQ(version, StoreVersion(1));
  ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, store->Load());
  EXPECT_EQ(loaded.state.jobs.size(), 3000U);
}

TEST_F(PostgresJobStoreTest, TextThatPostgresDoesNotTakeIsReplaced) {
  const auto store = Leader();
  JobGoalSet cancelled{JobId(1), JobGoal::kCancel, JobState::kCancelled, {}, absl::UnixEpoch()};
  cancelled.reason.text = std::string("it said \xff\0 and died", 19);
  ASSERT_OK(store->Commit(StoreVersion(), {Job(1), cancelled}));
  EXPECT_THAT(Shell()->QueryText("SELECT reason FROM weft.jobs"),
              IsOkAndHolds("it said \xef\xbf\xbd  and died"));
}

TEST_F(PostgresJobStoreTest, JobsCanBeReadWithPlainSql) {
  ASSERT_OK(Leader()->Commit(StoreVersion(), {Job(3)}));
  EXPECT_THAT(Shell()->QueryText("SELECT name || ' ' || state || ' ' || created FROM weft.jobs"),
              IsOkAndHolds("job-3 QUEUED 1970-01-01T00:00:03.000Z"));
}

TEST_F(PostgresJobStoreTest, HistoryIsTrimmedAndTheStateIsNot) {
  PostgresOptions options = On(target_);
  options.facts_kept = 30;
  options.trim_every = 50;
  const auto store = Leader(options);
  StoreVersion version;
  std::vector<Fact> facts = {Job(1)};
  for (int i = 0; i < 100; ++i) {
    ASSERT_OK_AND_ASSIGN(version, store->Commit(version, facts));
    facts = {WorkerRegistered{absl::StrCat("w", i % 7), CpuWorker(), absl::UnixEpoch()}};
  }
  ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, store->Load());
  EXPECT_EQ(loaded.state.jobs.size(), 1U);
  EXPECT_EQ(loaded.state.workers.size(), 7U);
  EXPECT_THAT(Shell()->QueryInt("SELECT count(*) FROM weft.facts"), IsOkAndHolds(30));
}

TEST_F(PostgresJobStoreTest, ARestoreMovesNumbersOn) {
  auto store = Leader();
  StoreVersion version;
  for (const std::vector<Fact>& batch : StoredHistory()) {
    ASSERT_OK_AND_ASSIGN(version, store->Commit(version, batch));
  }
  ASSERT_OK_AND_ASSIGN(const StoredCluster before, store->Load());
  store.reset();
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  std::ifstream file(
      absl::StrCat(std::getenv("WEFT_SOURCE_DIR"), "/deploy/postgres_after_restore.sql"));
  std::string sql;
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, "\\")) absl::StrAppend(&sql, line, "\n");  // those are psql's own
  }
  ASSERT_OK(Shell()->Execute(sql));
  ASSERT_OK_AND_ASSIGN(const StoredCluster after, Leader()->Load());
  EXPECT_EQ(after.state.last_job.value(), before.state.last_job.value() + 1000);
  int moved = 0;
  for (const auto& [id, job] : before.state.jobs) {
    const bool moves = !IsFinished(job.state) && job.generation.value() > 0;
    moved += moves ? 1 : 0;
    EXPECT_EQ(after.state.FindJob(id)->generation.value(),
              job.generation.value() + (moves ? 1000 : 0));
  }
  EXPECT_GT(moved, 0);
}

TEST_F(PostgresJobStoreTest, ASchemaOfANewerVersionIsRefused) {
  Leader();
  ASSERT_OK(Shell()->Execute("UPDATE weft.meta SET schema_version = 9"));
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  absl::Status refused;
  ASSERT_TRUE(Await([&] { return !(refused = store->TryLead().status()).ok(); }));
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("schema is 9")));
}

TEST_F(PostgresJobStoreTest, ASchemaOfSomebodyElseIsRefusedAndLeftAlone) {
  ASSERT_OK(Shell()->Execute("CREATE SCHEMA weft; CREATE TABLE weft.mine(x integer)"));
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  EXPECT_THAT(store->TryLead(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                         HasSubstr("not one of weft-coordinator")));
  EXPECT_OK(Shell()->Execute("DROP TABLE weft.mine"));
}

TEST_F(PostgresJobStoreTest, ASchemaMadeForARoleWithFewRightsWillDo) {
  ASSERT_OK(Shell()->Execute(
      "CREATE ROLE few LOGIN; CREATE SCHEMA weft AUTHORIZATION few; "
      "DO $$ BEGIN EXECUTE 'REVOKE ALL ON DATABASE ' || current_database() || ' FROM PUBLIC; "
      "GRANT CONNECT ON DATABASE ' || current_database() || ' TO few'; END $$"));
  const auto store = Leader(On(target_ + " user=few"));
  EXPECT_OK(store->Commit(StoreVersion(), {Job(1)}));
}

TEST_F(PostgresJobStoreTest, ADatabaseOfAnotherEncodingIsRefused) {
  EXPECT_THAT(PostgresJobStore::Open(On(SharedPostgresServer().NewDatabase("LATIN1"))),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("LATIN1")));
}

TEST_F(PostgresJobStoreTest, ARecordThatDoesNotParseIsDataLossThatNamesTheJob) {
  const auto store = Leader();
  ASSERT_OK(store->Commit(StoreVersion(), {Job(7)}));
  ASSERT_OK(Shell()->Execute("UPDATE weft.jobs SET record = '{\"id\":'"));
  EXPECT_THAT(store->Load(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("job 7")));
}

TEST_F(PostgresJobStoreTest, RowsThatDoNotFitTogetherAreDataLoss) {
  const auto store = Leader();
  ASSERT_OK(store->Commit(StoreVersion(), {Job(7)}));
  ASSERT_OK(Shell()->Execute("UPDATE weft.meta SET last_job = 5"));
  EXPECT_THAT(store->Load(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("fit together")));
}

TEST(PostgresTarget, WithAPasswordIsRefusedWithoutRepeatingIt) {
  for (const char* const target :
       {"host=db password=hush", "postgresql://weft:hush@db/weft", "host=db password=hush ="}) {
    EXPECT_THAT(CheckPostgresTarget(target),
                StatusIs(absl::StatusCode::kInvalidArgument, Not(HasSubstr("hush"))));
  }
  EXPECT_OK(CheckPostgresTarget("host=a,b port=5432 dbname=weft user=weft sslmode=verify-full"));
  EXPECT_OK(CheckPostgresTarget("postgresql://weft@db/weft"));
}

class Election : public PostgresJobStoreTest {
 protected:
  absl::StatusOr<std::unique_ptr<JobStore>> Await(const std::string& target,
                                                  std::function<bool(int)> go_on) {
    int pauses = 0;
    Standby standby;
    standby.pause = [&](absl::Duration) { return go_on(pauses++); };
    standby.tell = [this](const std::string& why) { told_ = why; };
    return AwaitLeadership(On(target, "host-b"), standby);
  }
  std::string told_;
};

TEST_F(Election, StandsByUntilTheLeaderIsGone) {
  auto first = Leader();
  ASSERT_OK_AND_ASSIGN(const auto store, Await(target_, [&](int pauses) {
                         EXPECT_EQ(told_, "stands by: host-a leads");
                         if (pauses == 2) first.reset();
                         return pauses < 10000;
                       }));
  EXPECT_OK(store->Load());
}

TEST_F(Election, EndsWhenItIsTold) {
  const auto first = Leader();
  EXPECT_THAT(Await(target_, [](int pauses) { return pauses < 2; }),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(Election, WaitsForAServerThatDoesNotAnswer) {
  EXPECT_THAT(Await("host=/nowhere dbname=weft", [](int pauses) { return pauses < 2; }),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(told_, AllOf(HasSubstr("stands by: cannot connect"), HasSubstr("/nowhere")));
}

TEST_F(Election, TakesThePasswordThatIsInTheFileByThen) {
  // From now on the server asks this one role for a password.
  ASSERT_OK(Shell()->Execute("CREATE ROLE careful SUPERUSER LOGIN PASSWORD 'new'"));
  ASSERT_OK_AND_ASSIGN(const std::string rules, Shell()->QueryText("SHOW hba_file"));
  ASSERT_OK(Shell()->Execute(absl::StrCat(
      "COPY (VALUES ('local all careful scram-sha-256'), ('local all all trust')) TO '", rules,
      "'; SELECT pg_reload_conf()")));
  const TempDir directory;
  const std::string file = (directory.path() / "password").string();
  PostgresOptions options = On(target_ + " user=careful", "host-b");
  ASSERT_TRUE(weft::testing::Await([&] { return !PostgresJobStore::Open(options).ok(); }));
  options.password_file = file;
  int pauses = 0;
  std::vector<std::string> told;
  Standby standby;
  standby.tell = [&told](const std::string& why) { told.push_back(why); };
  standby.pause = [&](absl::Duration) {
    ++pauses;
    if (pauses == 1) std::ofstream(file) << "old\n";
    if (pauses == 2) std::ofstream(file) << "new\n";
    return pauses < 3;
  };
  EXPECT_OK(AwaitLeadership(options, standby).status());
  EXPECT_THAT(told, ElementsAre(AllOf(HasSubstr("cannot read the password"), HasSubstr(file)),
                                HasSubstr("password authentication failed")));
}

TEST_F(Election, DoesNotWaitForWhatWaitingDoesNotMend) {
  EXPECT_THAT(Await(SharedPostgresServer().NewDatabase("LATIN1"), [](int) { return true; }),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace weft::coordinator
