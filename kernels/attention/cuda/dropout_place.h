// Where a call's dropout of attention weights is drawn, in plain numbers for .cu files.
#pragma once

#include <cstdint>

namespace weft::kernels {

struct DropoutPlace {
  bool on = false;
  uint64_t seed = 0;
  // Of the generator's counter: the third word is that of head 0 of sequence 0, and grows by one
  // from head to head.
  uint32_t counter2 = 0;
  uint32_t counter3 = 0;
  uint32_t threshold = 0;  // smaller words drop
  float factor = 1.0F;     // of what stays
};

}  // namespace weft::kernels
