// Keys drawn in proportion to their memberships in a cluster, in constant time: running sums over
// the keys, and for every stretch of sums the first key to look at. Private to the CPU kernels.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/device/aligned_array.h"

namespace weft::kernels {

// Word holds the sum of all memberships in a cluster, Index a key's number.
template <typename Word, typename Index>
class KeyTable {
 public:
  // units [keys, clusters]: memberships as integers (sampling_law.h). Costs keys * clusters.
  void Build(const float* units, int64_t keys, int64_t clusters) {
    keys_ = keys;
    guide_bits_ = static_cast<int>(std::bit_width(static_cast<uint64_t>(keys)));
    sums_ = sums_space_.Get(keys * clusters);
    guides_ = guides_space_.Get(clusters << guide_bits_);
    shifts_ = shifts_space_.Get(clusters);
    for (int64_t first = 0; first < clusters; first += kTogether) {
      BuildSums(units, clusters, first, std::min(kTogether, clusters - first));
    }
    for (int64_t cluster = 0; cluster < clusters; ++cluster) BuildGuide(cluster);
  }

  // The first key whose running sum exceeds `drawn`, which must be below the cluster's whole sum.
  [[nodiscard]] int64_t Find(int64_t cluster, uint64_t drawn) const {
    const Word* const sums = sums_ + cluster * keys_;
    int64_t key =
        guides_[(cluster << guide_bits_) + static_cast<int64_t>(drawn >> shifts_[cluster])];
    key += sums[key] <= drawn ? 1 : 0;  // so often that a jump would be guessed wrongly
    while (sums[key] <= drawn) ++key;
    return key;
  }

 private:
  // Clusters that are summed in one pass over the keys: a cache line of memberships.
  static constexpr int64_t kTogether = 16;

  void BuildSums(const float* units, int64_t clusters, int64_t first, int64_t count) {
    Word running[kTogether] = {};
    for (int64_t key = 0; key < keys_; ++key) {
      const float* const row = units + key * clusters + first;
      for (int64_t c = 0; c < count; ++c) {
        running[c] += static_cast<Word>(static_cast<int32_t>(row[c]));
        sums_[(first + c) * keys_ + key] = running[c];
      }
    }
  }

  // Entry e names the first key whose sum exceeds the least number of stretch e.
  void BuildGuide(int64_t cluster) {
    const Word* const sums = sums_ + cluster * keys_;
    Index* const guide = guides_ + (cluster << guide_bits_);
    const uint64_t total = keys_ == 0 ? 0 : sums[keys_ - 1];
    const int shift = std::max(0, static_cast<int>(std::bit_width(total)) - guide_bits_);
    shifts_[cluster] = shift;
    uint64_t entry = 0;
    for (int64_t key = 0; key < keys_; ++key) {
      for (; entry << shift < sums[key]; ++entry) guide[entry] = static_cast<Index>(key);
    }
  }

  int64_t keys_ = 0;
  int guide_bits_ = 0;
  Scratch<Word> sums_space_;     // [clusters, keys]
  Scratch<Index> guides_space_;  // [clusters, 2^guide_bits]
  Scratch<int> shifts_space_;    // [clusters]
  Word* sums_ = nullptr;
  Index* guides_ = nullptr;
  int* shifts_ = nullptr;
};

}  // namespace weft::kernels
