// The rules of a job spec beyond its types: defaults, ranges, and what must fit together.
#pragma once

#include <vector>

#include "proto/spec/violation.h"
#include "weft/v1/job_spec.pb.h"

namespace weft::spec {

// Fills in every default that job_spec.proto names and returns everything that is wrong. The
// server, the command line and the ranks call the same function, so they never disagree.
std::vector<Violation> ResolveSpec(v1::JobSpec& spec);

// Names of jobs, queues and workers: lower-case letters, digits and '-', starting with a letter,
// ending with a letter or a digit, at most 40 characters.
bool IsName(absl::string_view text);

// The rule above in words, for error texts.
absl::string_view NameRule();

}  // namespace weft::spec
