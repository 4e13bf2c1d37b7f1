// Writes a job spec as the YAML that ParseSpec reads.
#pragma once

#include <string>

#include "weft/v1/job_spec.pb.h"

namespace weft::spec {

// Only fields that are set, in the order of the proto. ParseSpec(SpecToYaml(spec)) gives `spec`
// back.
std::string SpecToYaml(const v1::JobSpec& spec);

}  // namespace weft::spec
