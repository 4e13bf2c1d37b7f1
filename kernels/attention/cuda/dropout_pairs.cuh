// Dropout of attention weights (kernels/attention/dropout.h) on a GPU: the same draws.
#pragma once

#include <cstdint>

#include "kernels/attention/cuda/dropout_place.h"
#include "kernels/random/philox.cuh"

namespace weft::kernels {

// What the weight of a pair is multiplied by. `head` counts [B, H].
__device__ inline float DropoutFactor(const DropoutPlace& place, int head, int query, int key) {
  if (!place.on) return 1.0F;
  const uint4 words =
      Philox4x32(make_uint4(static_cast<uint32_t>(query), static_cast<uint32_t>(key) / 4,
                            place.counter2 + static_cast<uint32_t>(head), place.counter3),
                 place.seed);
  const int which = key % 4;
  const uint32_t word = which == 0   ? words.x
                        : which == 1 ? words.y
                        : which == 2 ? words.z
                                     : words.w;
  return word < place.threshold ? 0.0F : place.factor;
}

}  // namespace weft::kernels
