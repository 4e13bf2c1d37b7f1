// Standard output, of which a write may fail long after it was asked for.
#pragma once

#include "absl/status/status.h"

namespace weft {

// Writes what stdio and std::cout still hold. An error when that, or anything before it, could not
// be written: kResourceExhausted for a full disk. Call it next after what was written.
absl::Status FlushStandardOutput();

}  // namespace weft
