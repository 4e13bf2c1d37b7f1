// The JobStore that several coordinators share: a PostgreSQL database, in which one of them leads.
//
// Who leads. A session's advisory lock says so, and the session is the very one that commits: with
// the session a leader loses lock and pen at the same time. The server itself ends a session that
// has said nothing for the lease, also when the process is stopped or its host is cut off, so no
// clocks of hosts are compared. A leader gives up an answer after half the lease and asks for one
// every quarter: it has stopped before the server gives the lock to another. Every commit also
// checks, in its transaction, the term (counted up by each new leader) and the version (counted up
// by each commit).
//
// Tables are those of the SQLite store, in a schema "weft" of the database.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/store/job_store.h"
#include "coordinator/store/postgres_connection.h"
#include "coordinator/store/postgres_options.h"
#include "coordinator/store/row_changes.h"

namespace weft::coordinator {

class PostgresJobStore final : public JobStore {
 public:
  // Connects; does not lead yet. kUnavailable: nobody answers, or lets us in; kFailedPrecondition:
  // not a server for this.
  static absl::StatusOr<std::unique_ptr<PostgresJobStore>> Open(PostgresOptions options);

  // Becomes the leader if nobody is, with all that goes with it: the schema, made or brought up to
  // date, and a new term. False: another one leads, leader() says who.
  //   kUnavailable: the connection is gone; kFailedPrecondition: written by a newer version, or not
  //   ours; kPermissionDenied.
  absl::StatusOr<bool> TryLead();
  // What the leader calls itself; empty when nobody leads.
  absl::StatusOr<std::string> leader();

  // Of a leader only.
  absl::StatusOr<StoredCluster> Load() override;
  absl::StatusOr<StoreVersion> Commit(StoreVersion expected, absl::Span<const Fact> facts) override;
  [[nodiscard]] absl::Duration renewal() const override { return options_.lease / 4; }
  absl::Status Renew() override;

 private:
  PostgresJobStore(std::unique_ptr<PostgresConnection> connection, PostgresOptions options);

  absl::Status CheckServer();
  absl::Status PrepareSchema();
  absl::Status PrepareStatements();
  absl::StatusOr<StoredCluster> ReadRows();
  absl::StatusOr<std::vector<Job>> ReadJobs();
  absl::StatusOr<std::vector<Worker>> ReadWorkers();
  absl::StatusOr<std::vector<QueueSettings>> ReadQueues();
  void AddFacts(StoreVersion version, absl::Span<const Fact> facts,
                std::vector<PostgresCall>& calls) const;
  // `known`: the newest job of before.
  void AddRows(const RowChanges& changes, JobId known, std::vector<PostgresCall>& calls) const;
  // A status of the connection as one that the driver understands.
  [[nodiscard]] absl::Status AsLeader(const absl::Status& status) const;

  const std::unique_ptr<PostgresConnection> connection_;
  const PostgresOptions options_;
  int64_t term_ = 0;
  // What the rows say: the facts are applied here to know what rows become. Empty until loaded, and
  // after a commit that failed.
  std::optional<StoredCluster> mirror_;
};

}  // namespace weft::coordinator
