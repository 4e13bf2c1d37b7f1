// Grey values as tokens.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "worker/data/sample_source.h"

namespace weft::worker {

// The shape of an image and its label.
inline SampleShape ImageShape(int64_t pixels, int32_t classes, bool mask_zero_pixels) {
  return {.sequence = pixels,
          .vocabulary = 256,
          .target_kind = TargetKind::kSample,
          .classes = classes,
          .padded = mask_zero_pixels};
}

// Marks black pixels as padding, if there is a mask.
inline void MaskZeroPixels(const SampleBuffers& into) {
  for (size_t i = 0; i < into.valid.size(); ++i) into.valid[i] = into.tokens[i] != 0 ? 1 : 0;
}

}  // namespace weft::worker
