// Writes a job spec as the YAML or JSON that ParseSpec reads.
#pragma once

#include <string>

#include "weft/v1/job_spec.pb.h"

namespace weft::spec {

// Only fields that are set, in the order of the proto. ParseSpec(SpecToYaml(spec)) gives `spec`
// back.
std::string SpecToYaml(const v1::JobSpec& spec);
// The same in JSON: protobuf's own knows other enum values, durations and whole numbers.
std::string SpecToJson(const v1::JobSpec& spec);

}  // namespace weft::spec
