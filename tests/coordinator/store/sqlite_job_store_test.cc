#include "coordinator/store/sqlite_job_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "coordinator/store/sqlite_connection.h"
#include "tests/coordinator/store/stored_history.h"
#include "tests/testing/temp_dir.h"

namespace weft::coordinator {
namespace {

using ::testing::HasSubstr;
using ::weft::testing::StatusIs;
using ::weft::testing::TempDir;

class SqliteJobStoreTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<SqliteJobStore>> Open(SqliteJobStore::Options options = {}) {
    return SqliteJobStore::Open(directory_.path().string(), options);
  }
  [[nodiscard]] std::string file() const {
    return (directory_.path() / SqliteJobStore::kFileName).string();
  }
  // Runs SQL on the file behind the store's back.
  void Tamper(const std::string& sql) {
    ASSERT_OK_AND_ASSIGN(const auto connection, SqliteConnection::Open(file()));
    ASSERT_OK(connection->Execute(sql));
  }
  static Fact Added(int64_t id, size_t spec_bytes = 10) {
    JobRequest request = CpuJob("job");
    request.spec = SharedBytes(std::string(spec_bytes, 'x'));
    return JobAdded{JobId(id), request, absl::FromUnixSeconds(id)};
  }
  // A store with a few jobs, closed again.
  void Fill() {
    ASSERT_OK_AND_ASSIGN(const auto store, Open());
    StoreVersion version;
    for (int64_t id = 1; id <= 20; ++id) {
      ASSERT_OK_AND_ASSIGN(version, store->Commit(version, {Added(id, 2000)}));
    }
  }

  TempDir directory_;
};

TEST_F(SqliteJobStoreTest, ASecondCoordinatorOnTheDirectoryIsRefusedByName) {
  ASSERT_OK_AND_ASSIGN(const auto first, Open());
  const absl::Status second = Open().status();
  EXPECT_THAT(second, StatusIs(absl::StatusCode::kFailedPrecondition,
                               HasSubstr(directory_.path().string())));
  EXPECT_THAT(std::string(second.message()), HasSubstr(absl::StrCat("process ", getpid())));
}

TEST_F(SqliteJobStoreTest, TheDirectoryIsFreeAgainAfterTheStoreIsClosed) {
  ASSERT_OK(Open());
  EXPECT_OK(Open());
}

TEST_F(SqliteJobStoreTest, ADatabaseOfANewerVersionIsRefused) {
  Fill();
  Tamper("PRAGMA user_version=9");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("schema is 9")));
}

TEST_F(SqliteJobStoreTest, ADatabaseOfAnotherProgramIsRefusedAndLeftAlone) {
  Tamper("CREATE TABLE mine(x)");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(file())));
  Tamper("DROP TABLE mine");  // still there
}

TEST_F(SqliteJobStoreTest, AFileThatIsNoDatabaseIsDataLossThatNamesIt) {
  std::ofstream(file()) << std::string(10000, 'z');
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(file())));
}

TEST_F(SqliteJobStoreTest, ATornFileIsDataLossAndNotAnEmptyCluster) {
  Fill();
  Tamper("PRAGMA wal_checkpoint(TRUNCATE)");
  const auto size = std::filesystem::file_size(file());
  std::filesystem::resize_file(file(), size / 2 + 100);
  auto opened = Open();
  const absl::Status status = opened.ok() ? (*opened)->Load().status() : opened.status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr(file())));
}

TEST_F(SqliteJobStoreTest, DamagedBytesAreDataLossOrHarmlessButNeverACrash) {
  Fill();
  Tamper("PRAGMA wal_checkpoint(TRUNCATE)");
  const auto size = static_cast<int64_t>(std::filesystem::file_size(file()));
  std::string whole(static_cast<size_t>(size), '\0');
  std::ifstream(file(), std::ios::binary).read(whole.data(), size);
  int refused = 0;
  for (int64_t page = 0; page < size / 4096; ++page) {
    std::string damaged = whole;
    for (size_t i = 0; i < 64; ++i) damaged[static_cast<size_t>(page) * 4096 + i] ^= 0x5a;
    std::ofstream(file(), std::ios::binary).write(damaged.data(), size);
    auto opened = Open();
    const absl::Status status = opened.ok() ? (*opened)->Load().status() : opened.status();
    refused += status.ok() ? 0 : 1;
    if (status.ok()) continue;
    EXPECT_THAT(std::string(status.message()), HasSubstr(file()));
  }
  EXPECT_GT(refused, size / 4096 / 2);
}

TEST_F(SqliteJobStoreTest, ARecordThatDoesNotParseIsDataLossThatNamesTheJob) {
  Fill();
  Tamper("UPDATE jobs SET record='{\"id\":' WHERE id=7");
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  EXPECT_THAT(store->Load(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("job 7")));
}

TEST_F(SqliteJobStoreTest, RowsThatDoNotFitTogetherAreDataLoss) {
  Fill();
  Tamper("UPDATE meta SET last_job=5");
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  EXPECT_THAT(store->Load(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("fit together")));
}

TEST_F(SqliteJobStoreTest, AnotherWriterBehindItsBackIsNoticedByTheVersion) {
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  ASSERT_OK(store->Commit(StoreVersion(), {Added(1)}));
  Tamper("UPDATE meta SET version=5");
  EXPECT_THAT(store->Commit(StoreVersion(1), {Added(2)}), StatusIs(absl::StatusCode::kAborted));
}

TEST_F(SqliteJobStoreTest, AFullDiskRefusesTheCommitAndLosesNothing) {
  ASSERT_OK_AND_ASSIGN(const auto store, Open({.max_bytes = 400 * 1024}));
  StoreVersion version;
  int64_t stored = 0;
  absl::Status refused;
  for (int64_t id = 1; id <= 200 && refused.ok(); ++id) {
    const auto next = store->Commit(version, {Added(id, 10000)});
    refused = next.status();
    if (!refused.ok()) break;
    version = *next;
    stored = id;
  }
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr(file())));
  EXPECT_GT(stored, 10);
  ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, store->Load());
  EXPECT_EQ(loaded.version, version);
  EXPECT_EQ(static_cast<int64_t>(loaded.state.jobs.size()), stored);
  // Small things still fit where a large one did not, and room that is freed is used again.
  JobGoalSet cancelled{JobId(1), JobGoal::kCancel, JobState::kCancelled, {}, absl::UnixEpoch()};
  ASSERT_OK_AND_ASSIGN(version, store->Commit(version, {cancelled, JobDeleted{JobId(1)}}));
  EXPECT_OK(store->Commit(version, {Added(stored + 1, 5000)}));
}

TEST_F(SqliteJobStoreTest, JobsCanBeReadWithPlainSql) {
  Fill();
  ASSERT_OK_AND_ASSIGN(const auto connection, SqliteConnection::Open(file()));
  EXPECT_THAT(
      connection->QueryText("SELECT name || ' ' || state || ' ' || created FROM jobs WHERE id=3"),
      ::weft::testing::IsOkAndHolds("job-3 QUEUED 1970-01-01T00:00:03.000Z"));
  EXPECT_THAT(connection->QueryInt("SELECT count(*) FROM facts WHERE job=3"),
              ::weft::testing::IsOkAndHolds(1));
}

TEST_F(SqliteJobStoreTest, HistoryIsTrimmedAndTheStateIsNot) {
  {
    ASSERT_OK_AND_ASSIGN(const auto store, Open({.facts_kept = 30, .trim_every = 50}));
    StoreVersion version;
    std::vector<Fact> facts = {Added(1)};
    for (int i = 0; i < 100; ++i) {
      ASSERT_OK_AND_ASSIGN(version, store->Commit(version, facts));
      facts = {WorkerRegistered{absl::StrCat("w", i % 7), CpuWorker(), absl::UnixEpoch()}};
    }
    ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, store->Load());
    EXPECT_EQ(loaded.state.jobs.size(), 1U);
    EXPECT_EQ(loaded.state.workers.size(), 7U);
  }
  ASSERT_OK_AND_ASSIGN(const auto connection, SqliteConnection::Open(file()));
  EXPECT_THAT(connection->QueryInt("SELECT count(*) FROM facts"),
              ::weft::testing::IsOkAndHolds(30));
}

// Kills a writer with SIGKILL in the middle of its work, again and again: whatever it had reported
// as committed is there, and the rest is whole.
TEST_F(SqliteJobStoreTest, AKilledWriterLosesNothingThatItReported) {
  int64_t reported = 0;
  for (int round = 0; round < 8; ++round) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const pid_t writer = fork();
    ASSERT_GE(writer, 0);
    if (writer == 0) {
      auto store = SqliteJobStore::Open(directory_.path().string());
      if (!store.ok()) _exit(1);
      auto loaded = (*store)->Load();
      if (!loaded.ok()) _exit(2);
      StoreVersion version = loaded->version;
      while (true) {
        const auto next = (*store)->Commit(version, {Added(version.value() + 1, 500)});
        if (!next.ok()) _exit(3);
        version = *next;
        const int64_t number = version.value();
        if (write(ends[1], &number, sizeof(number)) != sizeof(number)) _exit(4);
      }
    }
    close(ends[1]);
    // The kill lands somewhere in a later commit: between the reports there is always one going on.
    int64_t number = 0;
    for (int reports = 0; reports < 3 + 2 * round; ++reports) {
      ASSERT_EQ(read(ends[0], &number, sizeof(number)), static_cast<ssize_t>(sizeof(number)));
    }
    kill(writer, SIGKILL);
    int how = 0;
    ASSERT_EQ(waitpid(writer, &how, 0), writer);
    ASSERT_TRUE(WIFSIGNALED(how)) << "the writer ended by itself: " << WEXITSTATUS(how);
    while (read(ends[0], &number, sizeof(number)) == static_cast<ssize_t>(sizeof(number))) {
      reported = number;
    }
    reported = std::max(reported, number);
    close(ends[0]);

    ASSERT_OK_AND_ASSIGN(const auto store, Open());
    ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, store->Load());
    EXPECT_GE(loaded.version.value(), reported);
    EXPECT_LE(loaded.version.value(), reported + 1);
    EXPECT_EQ(static_cast<int64_t>(loaded.state.jobs.size()), loaded.version.value());
  }
}

}  // namespace
}  // namespace weft::coordinator
