// The draws of dropout: what every device must do alike. For op code only.
#pragma once

#include <cstdint>

#include "kernels/ops/dropout/dropout.h"
#include "kernels/random/philox.h"

namespace weft::kernels::internal {

// Of one sequence of the call.
inline DrawSite SiteOf(const DropoutOptions& options, int64_t row) {
  return {.tag = RandomTag::kDropout,
          .step = static_cast<uint32_t>(options.step),
          .layer = static_cast<uint32_t>(options.layer),
          .sample = static_cast<uint32_t>(options.first_sequence + row)};
}

// Of channels 4 block ... 4 block + 3.
inline uint32_t OrdinalOf(const DropoutOptions& options, int64_t block) {
  return static_cast<uint32_t>(options.site << 20 | block);
}

// An element is kept when its word is at least this.
inline uint32_t LeastKept(const DropoutOptions& options) {
  return static_cast<uint32_t>(options.probability * 0x1p32);
}

}  // namespace weft::kernels::internal
