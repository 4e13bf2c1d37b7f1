// The exit codes of every program, so that scripts can tell what happened.
#pragma once

#include "absl/status/status.h"

namespace weft {

enum ExitCode : int {
  kExitOk = 0,
  kExitError = 1,        // anything not listed below
  kExitUsage = 2,        // wrong arguments, a wrong spec
  kExitNotFound = 3,     // no such job, worker, queue, checkpoint
  kExitDenied = 4,       // not allowed
  kExitConflict = 5,     // exists already, is in use, is in a state that does not allow it
  kExitUnavailable = 6,  // not reachable, or not in time
  kExitJobFailed = 10,
  kExitJobCancelled = 11,
  kExitWaitTimedOut = 12,
  kExitInterrupted = 130,
};

constexpr ExitCode ExitCodeOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return kExitUsage;
    case absl::StatusCode::kNotFound:
      return kExitNotFound;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return kExitDenied;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
      return kExitConflict;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kExitUnavailable;
    case absl::StatusCode::kCancelled:
      return kExitInterrupted;
    default:
      return kExitError;
  }
}

}  // namespace weft
