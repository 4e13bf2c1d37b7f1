// The JobStore of one node: a SQLite database (WAL, full sync) in the coordinator's state
// directory. Each commit is one transaction that appends the facts and writes the current rows of
// what they changed, so that loading reads rows and replays nothing. `sqlite3 weft.db 'SELECT *
// FROM jobs'` works any time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "coordinator/store/directory_lock.h"
#include "coordinator/store/job_store.h"
#include "coordinator/store/row_changes.h"
#include "coordinator/store/sqlite_connection.h"

namespace weft::coordinator {

class SqliteJobStore final : public JobStore {
 public:
  struct Options {
    // Facts kept as history, newest first; older ones are dropped now and then.
    int64_t facts_kept = 200000;
    int64_t trim_every = 1000;  // commits
    // The database may not grow beyond this; 0 = no limit.
    int64_t max_bytes = 0;
  };
  static constexpr char kFileName[] = "weft.db";

  // Opens or creates <directory>/weft.db. The directory must exist.
  //   kFailedPrecondition: another coordinator uses the directory; the file is of a newer version,
  //   not
  //                        ours, or may not be written
  //   kDataLoss:           the file is damaged
  static absl::StatusOr<std::unique_ptr<SqliteJobStore>> Open(const std::string& directory,
                                                              Options options);
  static absl::StatusOr<std::unique_ptr<SqliteJobStore>> Open(const std::string& directory) {
    return Open(directory, Options());
  }

  absl::StatusOr<StoredCluster> Load() override;
  absl::StatusOr<StoreVersion> Commit(StoreVersion expected, absl::Span<const Fact> facts) override;

 private:
  struct Statements {
    SqliteStatement insert_fact;
    SqliteStatement insert_job;
    SqliteStatement update_job;
    SqliteStatement delete_job;
    SqliteStatement put_worker;
    SqliteStatement delete_worker;
    SqliteStatement put_queue;
    SqliteStatement delete_queue;
    SqliteStatement read_version;
    SqliteStatement write_meta;
    SqliteStatement trim_facts;
  };

  SqliteJobStore(DirectoryLock lock, std::unique_ptr<SqliteConnection> connection, Options options);

  absl::Status Prepare();
  absl::StatusOr<StoredCluster> ReadRows();
  absl::StatusOr<std::vector<Job>> ReadJobs();
  absl::StatusOr<std::vector<Worker>> ReadWorkers();
  absl::StatusOr<std::vector<QueueSettings>> ReadQueues();
  absl::Status WriteFacts(StoreVersion version, absl::Span<const Fact> facts);
  absl::Status WriteRows(const RowChanges& changes);
  absl::Status WriteJob(const Job& job);

  const DirectoryLock lock_;
  const std::unique_ptr<SqliteConnection> connection_;
  const Options options_;
  std::optional<Statements> statements_;
  // What the rows say: the facts are applied here to know what rows become. Empty until loaded, and
  // after a commit that failed.
  std::optional<StoredCluster> mirror_;
  std::set<JobId> jobs_with_row_;
};

}  // namespace weft::coordinator
