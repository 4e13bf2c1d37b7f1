// In builds without libpq.
#include "coordinator/archive/postgres_step_history.h"
#include "coordinator/store/postgres_election.h"

namespace weft::coordinator {

absl::StatusOr<std::unique_ptr<StepHistory>> OpenPostgresStepHistory(
    const PostgresOptions& database, StepHistory::Options /*options*/) {
  return CheckPostgresTarget(database.target);
}

}  // namespace weft::coordinator
