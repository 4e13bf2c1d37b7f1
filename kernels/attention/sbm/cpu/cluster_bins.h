// Draws whose cluster is known and whose key is not yet, collected by cluster: the keys of many
// draws of one cluster are found together, while its part of the table is in the nearest cache.
// (Measured with 128 clusters of 2048 keys: two fifths of the time of finding each key at once.)
// Private to the CPU kernels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/device/aligned_array.h"

namespace weft::kernels {

template <typename Word>
class ClusterBins {
 public:
  struct Draw {
    Word drawn;     // what KeyTable::Find looks for
    int32_t query;  // whose edge it is
  };

  void Prepare(int64_t clusters) {
    capacity_ = std::clamp(kDraws / clusters, kFewest, kMost);
    draws_ = draws_space_.Get(clusters * capacity_);
    counts_ = counts_space_.Get(clusters);
    std::fill_n(counts_, clusters, int64_t{0});
  }

  // Calls empty(draws, count) when the bin of the cluster has become full.
  template <typename Empty>
  void Add(int64_t cluster, Draw draw, Empty empty) {
    Draw* const bin = draws_ + cluster * capacity_;
    bin[counts_[cluster]++] = draw;
    if (counts_[cluster] == capacity_) TakeOut(cluster, empty);
  }

  // Calls empty(draws, count) with what the bin of the cluster still holds.
  template <typename Empty>
  void TakeOut(int64_t cluster, Empty empty) {
    empty(draws_ + cluster * capacity_, counts_[cluster]);
    counts_[cluster] = 0;
  }

 private:
  static constexpr int64_t kDraws = 262144, kFewest = 64, kMost = 4096;

  int64_t capacity_ = 0;
  Scratch<Draw> draws_space_;      // [clusters, capacity]
  Scratch<int64_t> counts_space_;  // [clusters]
  Draw* draws_ = nullptr;
  int64_t* counts_ = nullptr;
};

}  // namespace weft::kernels
