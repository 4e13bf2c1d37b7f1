// Patches: sets of queries and keys whose pairs are written out. Private to the CPU kernels of
// scatterbrain.
//
// A round is a list of patches of which no two share a query (forward) or, going backward, a query
// or a key: they may be computed at the same time, and each result has one owner. Rounds follow
// from the problem alone, so sums have one order.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention/scatterbrain/cpu/head_space.h"

namespace weft::kernels::scatterbrain {

// What a pair's weight does to what is there.
enum class PatchKind : uint8_t {
  // Nothing is there: exact pairs get their exact weight, the other visible ones their low-rank
  // weight.
  kFill,
  // The low-rank weight is there: exact pairs get the difference.
  kReplace,
};

// The tokens of a patch, in order. Padding is not among the keys.
struct Patch {
  PatchKind kind = PatchKind::kFill;
  int64_t hash_round = 0;  // exact are pairs that met in no earlier round of hashing
  const int32_t* queries = nullptr;
  int64_t query_count = 0;
  const int32_t* keys = nullptr;
  int64_t key_count = 0;
};

// The tokens of one head sorted by bucket, in order within each.
class BucketLists {
 public:
  // ids: [rounds, count], -1 in no bucket.
  BucketLists(const int32_t* ids, int64_t rounds, int64_t count, int64_t buckets);

  struct List {
    const int32_t* tokens;
    int64_t count;
  };
  [[nodiscard]] List In(int64_t round, int64_t bucket) const {
    const int32_t* const starts = starts_.data() + round * (buckets_ + 1);
    return {tokens_.data() + round * count_ + starts[bucket], starts[bucket + 1] - starts[bucket]};
  }

 private:
  int64_t count_;
  int64_t buckets_;
  std::vector<int32_t> tokens_;  // [rounds, count]
  std::vector<int32_t> starts_;  // [rounds, buckets + 1]
};

// The rounds of a problem. Built once for a call; what depends on the head comes with At.
class PatchRounds {
 public:
  PatchRounds(const ScatterbrainProblem& problem, const Tiles& tiles, bool backward);

  [[nodiscard]] int64_t rounds() const { return static_cast<int64_t>(rounds_.size()); }
  [[nodiscard]] int64_t patches(int64_t round) const { return rounds_[round].patches; }

  // Hash support: the lists of one head.
  struct HeadLists {
    BucketLists queries;
    BucketLists keys;
  };
  [[nodiscard]] HeadLists NewHeadLists(const HashBucketTensors& buckets, int64_t index) const;

  // One patch of a head. `lists`: of the head, null without hashing. `room` keeps keys that do not
  // lie together for as long as the patch is used.
  [[nodiscard]] Patch At(int64_t round, int64_t index, const KeyList& keys, const HeadLists* lists,
                         std::vector<int32_t>& room) const;

 private:
  struct Round {
    PatchKind kind = PatchKind::kFill;
    int64_t hash_round = -1;  // of hashing; else tiles of `tile` tokens
    int64_t tile = 0;
    int64_t patches = 0;
    // Of patch x: query tile and its ranges of key tiles, ranges first[x] ... first[x + 1] - 1.
    std::vector<int32_t> query_tiles;
    std::vector<TileRange> ranges;
    std::vector<int32_t> first;
  };

  static Round EmptyRound(PatchKind kind, int64_t tile) {
    return {.kind = kind, .tile = tile, .query_tiles = {}, .ranges = {}, .first = {}};
  }
  template <typename Meets>
  static std::vector<TileRange> Runs(int64_t begin, int64_t end, int64_t i, const Meets& meets);
  template <typename Meets>
  void AddBands(PatchKind kind, int64_t tile, int64_t query_tiles, int64_t key_tiles,
                TileRange distances, const Meets& meets);
  void AddFilled(const Tiles& tiles, bool backward);
  void AddBlocks(const BlockLayout& layout, bool backward);
  void AddPatch(Round& round, int64_t query_tile, const std::vector<TileRange>& ranges);
  [[nodiscard]] Patch TilePatch(const Round& round, int64_t index, const KeyList& keys,
                                std::vector<int32_t>& room) const;

  const ScatterbrainProblem& p_;
  std::vector<int32_t> all_queries_;  // 0, 1, 2, ...
  std::vector<Round> rounds_;
};

}  // namespace weft::kernels::scatterbrain
