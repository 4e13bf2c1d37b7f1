// Reads the spec of a job for submit, run and validate.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "weft/v1/job_spec.pb.h"

namespace weft::client {

// Where a spec comes from: exactly one of a file and a preset.
struct JobSource {
  std::string file = {};                   // "-": standard input
  std::string preset = {};                 // a name of client/presets
  std::vector<std::string> settings = {};  // changes: client/settings.h
};

// The spec, resolved and checked: kInvalidArgument holds one line a problem. Relative data paths
// become absolute, from the file's folder, or of a preset from the folder of this process, so that
// a worker on this machine finds what the person meant.
absl::StatusOr<v1::JobSpec> ReadJob(const JobSource& source);

}  // namespace weft::client
