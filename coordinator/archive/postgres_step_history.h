// The step history of coordinators that share a PostgreSQL database: a new leader goes on with it.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "coordinator/archive/step_history.h"
#include "coordinator/store/postgres_options.h"

namespace weft::coordinator {

// Of a coordinator that leads, in a session of its own. Once another one leads, nothing is written
// any more (kAborted). A session that breaks is made again by the next call.
//   kAborted: nobody answers, so that another coordinator may lead by now; kDataLoss: damaged;
//   kUnimplemented: this build is without PostgreSQL.
absl::StatusOr<std::unique_ptr<StepHistory>> OpenPostgresStepHistory(
    const PostgresOptions& database, StepHistory::Options options);

}  // namespace weft::coordinator
