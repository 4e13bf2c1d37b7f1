// In builds without libpq.
#include "coordinator/store/postgres_election.h"

namespace weft::coordinator {

absl::Status CheckPostgresTarget(const std::string&) {
  return absl::UnimplementedError(
      "this weft-coordinator was built without PostgreSQL; leave the setting out, and jobs are "
      "kept "
      "in SQLite in state_dir, or use one that was built with libpq");
}

absl::StatusOr<std::unique_ptr<JobStore>> AwaitLeadership(const PostgresOptions& options,
                                                          const Standby&) {
  return CheckPostgresTarget(options.target);
}

}  // namespace weft::coordinator
