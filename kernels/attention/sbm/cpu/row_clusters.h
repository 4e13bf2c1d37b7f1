// The clusters that one query's edges may lead to, drawn in proportion to their integer weights.
// Private to the CPU kernels.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace weft::kernels {

class RowClusters {
 public:
  // running[c]: the sum of the weights of clusters 0 to c; `count` of them. `draws` is how many are
  // to come: a guide pays for many only.
  RowClusters(const uint64_t* running, int64_t count, int64_t draws)
      : running_(running), count_(count), guided_(draws >= kManyDraws) {
    if (!guided_) return;
    const uint64_t total = running[count - 1];
    shift_ = std::max(0, static_cast<int>(std::bit_width(total)) - kGuideBits);
    uint64_t entry = 0;
    for (int64_t c = 0; c < count; ++c) {
      for (; entry < guide_.size() && entry << shift_ < running[c]; ++entry) {
        guide_[entry] = static_cast<uint16_t>(c);
      }
    }
  }

  // The first cluster whose running sum exceeds `drawn`, which must be below the whole sum.
  [[nodiscard]] int64_t Find(uint64_t drawn) const {
    if (!guided_) return std::upper_bound(running_, running_ + count_, drawn) - running_;
    int64_t c = guide_[drawn >> shift_];
    while (running_[c] <= drawn) ++c;
    return c;
  }

 private:
  static constexpr int kGuideBits = 8;
  static constexpr int64_t kManyDraws = 64;

  const uint64_t* running_;
  int64_t count_;
  bool guided_;
  int shift_ = 0;
  std::array<uint16_t, 1 << kGuideBits> guide_;  // filled as far as the sums reach
};

}  // namespace weft::kernels
