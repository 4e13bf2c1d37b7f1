// How a coordinator comes to lead among several that share a PostgreSQL database.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/store/job_store.h"
#include "coordinator/store/postgres_options.h"

namespace weft::coordinator {

// kInvalidArgument: not a connection string, or one with a password in it, which would be seen by
// everybody who sees the settings. kUnimplemented: this build is without PostgreSQL.
absl::Status CheckPostgresTarget(const std::string& target);

struct Standby {
  // Waits for so long; false: the process should end.
  std::function<bool(absl::Duration)> pause;
  // Why this coordinator does not serve yet, each time it has looked. Must not block.
  std::function<void(const std::string&)> tell;
};

// Blocks until this coordinator leads. Connects again for as long as nobody answers.
//   kCancelled: `pause` said so; kFailedPrecondition, kPermissionDenied: nothing that waiting
//   mends.
absl::StatusOr<std::unique_ptr<JobStore>> AwaitLeadership(const PostgresOptions& options,
                                                          const Standby& standby);

}  // namespace weft::coordinator
