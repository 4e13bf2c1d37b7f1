// Reads job.yaml for submit, run and validate.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "weft/v1/job_spec.pb.h"

namespace weft::client {

// The spec in the file ("-" for standard input), resolved and checked: kInvalidArgument holds one
// line a problem. Relative data paths become absolute, from the file's folder, so that a worker on
// this machine finds what the person meant.
absl::StatusOr<v1::JobSpec> ReadJobFile(const std::string& path);

}  // namespace weft::client
