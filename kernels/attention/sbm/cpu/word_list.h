// Random words of many draws of one query at once. Private to the CPU kernels.
#pragma once

#include <cstdint>

#include "kernels/device/cpu/vector/vector_table.h"
#include "kernels/random/philox.h"

namespace weft::kernels {

class WordList {
 public:
  static constexpr int64_t kMost = 256;  // draws at once

  WordList(const VectorTable& vector, uint64_t seed, const DrawSite& site, int64_t position,
           uint32_t first_ordinal = 0)
      : vector_(vector), first_ordinal_(first_ordinal) {
    const PhiloxWords counter = CounterOf(site, static_cast<uint32_t>(position), 0);
    place_ = {.primary = counter[0], .third = counter[2], .fourth = counter[3], .key = seed};
  }

  // Draws with ordinals first, first + 1, ...; at most kMost.
  void Fill(int64_t first, int64_t count) {
    for (int64_t i = 0; i < count; ++i) Ordinal(i, first + i);
    vector_.philox(place_, ordinals_, words_, count);
  }
  // Draws whose ordinals are those of a list, divided by `share`.
  void Fill(const int32_t* ordinals, int64_t count, int32_t share = 1) {
    for (int64_t i = 0; i < count; ++i) Ordinal(i, ordinals[i] / share);
    vector_.philox(place_, ordinals_, words_, count);
  }

  // The four words of the i-th draw, followed by those of the next.
  [[nodiscard]] const uint32_t* Words(int64_t i) const { return words_ + 4 * i; }

 private:
  void Ordinal(int64_t i, int64_t ordinal) {
    ordinals_[i] = first_ordinal_ + static_cast<uint32_t>(ordinal);
  }

  const VectorTable& vector_;
  uint32_t first_ordinal_;
  PhiloxPlace place_;
  uint32_t ordinals_[kMost];
  uint32_t words_[4 * kMost];
};

}  // namespace weft::kernels
