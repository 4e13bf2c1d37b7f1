// From a job's data section to its samples.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/data/data_config.h"
#include "worker/data/sample_source.h"

namespace weft::worker {

// Samples of `sequence` tokens. `vocabulary`, that of the model, is what tokens in token files must
// be below. Errors as those of the sources.
absl::StatusOr<std::unique_ptr<SampleSource>> OpenData(const DataConfig& config, int64_t sequence,
                                                       int32_t vocabulary);

}  // namespace weft::worker
