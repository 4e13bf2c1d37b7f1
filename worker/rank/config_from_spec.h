// From what a user wrote to what a training run does. The only place where the proto's spec and the
// trainer's plain values meet.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "weft/v1/job_spec.pb.h"
#include "worker/train/train_config.h"

namespace weft::worker {

// Defaults are filled in first. Relative data paths start at `data_root`. kInvalidArgument with all
// violations.
absl::StatusOr<TrainConfig> ConfigFromSpec(const v1::JobSpec& spec, absl::string_view data_root);

// Of a spec whose defaults are filled in.
ModelConfig ModelFromSpec(const v1::ModelSpec& spec);

}  // namespace weft::worker
