// Dropout of one row of attention weights on the CPU: the same factors as DropoutFactor
// (kernels/attention/dropout.h), many at a time. Private to kernels/attention.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/attention/dropout.h"
#include "kernels/device/cpu/vector/vector_table.h"

namespace weft::kernels {

class DropoutRow {
 public:
  // The weights of one query of one head. `site`: dropout.Site(...) of the head.
  DropoutRow(const VectorTable& vector, const AttentionDropout& dropout, const DrawSite& site,
             int64_t query)
      : vector_(vector),
        place_{static_cast<uint32_t>(query), site.sample | site.layer << 20,
               site.step | static_cast<uint32_t>(site.tag) << 28, dropout.seed},
        threshold_(dropout.threshold()),
        factor_(static_cast<float>(dropout.factor())) {}

  // y = x times the factors of keys first ... first + n - 1. y may be x.
  void Apply(int64_t first, const float* x, float* y, int64_t n) const {
    int64_t done = 0;
    while (done < n) {
      const int64_t key = first + done;
      const int64_t skipped = key % 4;  // words of the first block that are not wanted
      const int64_t count = std::min(n - done, 4 * kBlocks - skipped);
      std::array<uint32_t, kBlocks> ordinals;
      const int64_t blocks = (skipped + count + 3) / 4;
      for (int64_t b = 0; b < blocks; ++b) ordinals[b] = static_cast<uint32_t>(key / 4 + b);
      std::array<uint32_t, 4 * kBlocks> words;
      vector_.philox(place_, ordinals.data(), words.data(), blocks);
      vector_.keep_from(words.data() + skipped, threshold_, factor_, x + done, y + done, count);
      done += count;
    }
  }

  // The same for a list of keys in rising order.
  void Apply(const int32_t* keys, const float* x, float* y, int64_t n) const {
    if (n > 0 && keys[n - 1] - keys[0] + 1 == n) return Apply(keys[0], x, y, n);
    int64_t done = 0;
    while (done < n) {
      // Keys of one block share it.
      std::array<uint32_t, kBlocks> ordinals;
      std::array<uint32_t, 4 * kBlocks> at;
      int64_t blocks = 0;
      int64_t count = 0;
      for (; done + count < n && count < 4 * kBlocks; ++count) {
        const auto key = static_cast<uint32_t>(keys[done + count]);
        if (blocks == 0 || ordinals[blocks - 1] != key / 4) {
          if (blocks == kBlocks) break;
          ordinals[blocks++] = key / 4;
        }
        at[count] = static_cast<uint32_t>(4 * (blocks - 1)) + key % 4;
      }
      std::array<uint32_t, 4 * kBlocks> words;
      vector_.philox(place_, ordinals.data(), words.data(), blocks);
      for (int64_t c = 0; c < count; ++c) at[c] = words[at[c]];
      vector_.keep_from(at.data(), threshold_, factor_, x + done, y + done, count);
      done += count;
    }
  }

 private:
  static constexpr int64_t kBlocks = 64;

  const VectorTable& vector_;
  const PhiloxPlace place_;
  const uint32_t threshold_;
  const float factor_;
};

}  // namespace weft::kernels
