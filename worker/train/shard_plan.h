// Which shards of a step a rank computes, and which part of the weights it keeps the optimizer's
// state of: pure functions, known to every rank without talking.
#pragma once

#include <cstdint>

namespace weft::worker {

struct ShardRange {
  int64_t first = 0;
  int64_t last = 0;  // behind the last one

  [[nodiscard]] int64_t count() const { return last - first; }
  friend bool operator==(const ShardRange&, const ShardRange&) = default;
};

// Shards 0 to shards-1 are cut into `ranks` runs whose lengths differ by at most one. Every rank
// has at least one shard: ranks must be 1 to shards.
constexpr ShardRange ShardsOfRank(int64_t shards, int64_t rank, int64_t ranks) {
  return {.first = shards * rank / ranks, .last = shards * (rank + 1) / ranks};
}

// Neighbouring elements of the flat block of weights.
struct ElementRange {
  int64_t first = 0;
  int64_t count = 0;
  friend bool operator==(const ElementRange&, const ElementRange&) = default;
};

// The block is cut at multiples of 64 elements: whole vectors on every device.
constexpr ElementRange ElementsOfRank(int64_t elements, int64_t rank, int64_t ranks) {
  const auto cut = [=](int64_t i) {
    return i == ranks ? elements : elements * i / ranks / 64 * 64;
  };
  return {.first = cut(rank), .count = cut(rank + 1) - cut(rank)};
}

}  // namespace weft::worker
