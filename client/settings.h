// Changes of a job file from the command line: `--set training.steps=100`.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace weft::client {

// The YAML text with every setting applied, in their order. A setting is PATH=VALUE: a path names
// fields as errors do (`model.mixers[0].delta.heads`), and makes those that are not there; a value
// is YAML, and takes the place of what was there, whole. Comments are lost. kInvalidArgument names
// the setting that cannot be understood; whether the spec is right is not looked at.
absl::StatusOr<std::string> WithSettings(absl::string_view yaml,
                                         absl::Span<const std::string> settings);

}  // namespace weft::client
