// The data section of a spec as plain values.
#pragma once

#include "absl/strings/string_view.h"
#include "weft/v1/data_spec.pb.h"
#include "worker/data/data_config.h"

namespace weft::worker {

// Of a spec whose defaults are filled in. Relative paths start at `data_root`; `vocabulary` is that
// of the model.
DataConfig DataFromSpec(const v1::DataSpec& spec, absl::string_view data_root, int32_t vocabulary);

}  // namespace weft::worker
