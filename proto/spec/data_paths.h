// The paths in the data section of a spec.
#pragma once

#include <string>

#include "absl/functional/function_ref.h"
#include "weft/v1/data_spec.pb.h"

namespace weft::spec {

// Gives every path in `data` to `change`: files and folders, training and validation.
void ChangePaths(v1::DataSpec& data,
                 absl::FunctionRef<std::string(const std::string& path)> change);

}  // namespace weft::spec
