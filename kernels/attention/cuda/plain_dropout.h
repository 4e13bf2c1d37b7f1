// AttentionDropout as .cu files take it.
#pragma once

#include "kernels/attention/cuda/dropout_place.h"
#include "kernels/attention/dropout.h"

namespace weft::kernels {

inline DropoutPlace PlaceOf(const AttentionDropout& dropout, int64_t heads) {
  if (!dropout.on()) return {};
  const PhiloxWords counter = CounterOf(dropout.Site(heads, 0, 0), 0, 0);
  return {.on = true,
          .seed = dropout.seed,
          .counter2 = counter[2],
          .counter3 = counter[3],
          .threshold = dropout.threshold(),
          .factor = static_cast<float>(dropout.factor())};
}

}  // namespace weft::kernels
