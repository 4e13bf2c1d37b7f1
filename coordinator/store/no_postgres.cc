// In builds without libpq.
#include "coordinator/store/postgres_election.h"

namespace weft::coordinator {

absl::Status CheckPostgresTarget(const std::string&) {
  return absl::UnimplementedError("this weft-coordinator was built without PostgreSQL");
}

absl::StatusOr<std::unique_ptr<JobStore>> AwaitLeadership(const PostgresOptions& options,
                                                          const Standby&) {
  return CheckPostgresTarget(options.target);
}

}  // namespace weft::coordinator
