// Which shards of a step a rank computes: a pure function, known to every rank without talking.
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

}  // namespace weft::worker
