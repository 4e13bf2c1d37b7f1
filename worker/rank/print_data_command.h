// `weft-rank print-data`: samples of a job's data, to look at.
#pragma once

#include <cstdint>
#include <istream>
#include <ostream>

#include "absl/status/status.h"

namespace weft::worker {

struct PrintDataRequest {
  bool validation = false;  // of the validation split, not the training's
  int64_t first = 0;
  int64_t count = 1;  // fewer when the split ends before
};

// Reads a job's spec (YAML or JSON) from `spec`. Writes to `out` one line of JSON about the data,
// then one a sample: its number, tokens, targets and, of padded data, which positions are valid.
// Errors as those of the spec and of the data; kOutOfRange when the first sample does not exist.
absl::Status PrintData(const PrintDataRequest& request, std::istream& spec, std::ostream& out);

}  // namespace weft::worker
