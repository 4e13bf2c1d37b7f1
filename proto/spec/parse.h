// Reads a job spec from YAML or JSON (which is YAML). Keys are field names of weft.v1.JobSpec, enum
// values are lower case without their prefix, durations are written "500ms", "10s", "5m". Nothing
// is guessed: an unknown or repeated key, a value of another type, and two kinds where one is
// allowed are violations.
#pragma once

#include <vector>

#include "absl/strings/string_view.h"
#include "proto/spec/violation.h"
#include "weft/v1/job_spec.pb.h"

namespace weft::spec {

// Fills `spec` with what could be read and returns everything that is wrong, with line numbers. Of
// a number that its field cannot hold the nearest that it can is kept. Defaults and ranges are the
// business of ResolveSpec.
std::vector<Violation> ParseSpec(absl::string_view text, v1::JobSpec& spec);

// Adds to what ParseSpec found what ResolveSpec says of the spec that it read, so that all problems
// are named at once and each once: a field that could not be read, or is misspelt, is not reported
// as missing as well, nor is a choice that names nothing known; a number beyond its type is told
// the range of its rule.
void AddRules(std::vector<Violation> rules, std::vector<Violation>& violations);

}  // namespace weft::spec
