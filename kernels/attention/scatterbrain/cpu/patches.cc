#include "kernels/attention/scatterbrain/cpu/patches.h"

#include <algorithm>
#include <numeric>

namespace weft::kernels::scatterbrain {

BucketLists::BucketLists(const int32_t* ids, int64_t rounds, int64_t count, int64_t buckets)
    : count_(count), buckets_(buckets), tokens_(rounds * count), starts_(rounds * (buckets + 1)) {
  std::vector<int32_t> next(buckets);
  for (int64_t round = 0; round < rounds; ++round) {
    const int32_t* const id = ids + round * count;
    int32_t* const start = starts_.data() + round * (buckets + 1);
    for (int64_t t = 0; t < count; ++t) {
      if (id[t] >= 0) ++start[id[t] + 1];
    }
    std::partial_sum(start, start + buckets + 1, start);
    std::copy_n(start, buckets, next.begin());
    for (int64_t t = 0; t < count; ++t) {
      if (id[t] >= 0) tokens_[round * count + next[id[t]]++] = static_cast<int32_t>(t);
    }
  }
}

PatchRounds::PatchRounds(const ScatterbrainProblem& problem, const Tiles& tiles, bool backward)
    : p_(problem), all_queries_(problem.queries) {
  std::iota(all_queries_.begin(), all_queries_.end(), 0);
  if (!tiles.one_sum()) AddFilled(tiles, backward);
  if (const auto* blocks = std::get_if<BlockSupport>(&p_.support)) {
    AddBlocks(*blocks->layout, backward);
  } else if (const auto* hash = std::get_if<HashSupport>(&p_.support)) {
    for (int64_t round = 0; round < hash->rounds; ++round) {
      rounds_.push_back({.kind = PatchKind::kReplace,
                         .hash_round = round,
                         .tile = 0,
                         .patches = TilesOf(p_.keys, hash->key_bucket),
                         .query_tiles = {},
                         .ranges = {},
                         .first = {}});
    }
  }
}

void PatchRounds::AddPatch(Round& round, int64_t query_tile, const std::vector<TileRange>& ranges) {
  if (ranges.empty()) return;
  if (round.first.empty()) round.first.push_back(0);
  ++round.patches;
  round.query_tiles.push_back(static_cast<int32_t>(query_tile));
  round.ranges.insert(round.ranges.end(), ranges.begin(), ranges.end());
  round.first.push_back(static_cast<int32_t>(round.ranges.size()));
}

// Forward: all key tiles of a query tile at once. Backward: a round for each distance between them,
// so that no two patches of a round share a key tile.
void PatchRounds::AddFilled(const Tiles& tiles, bool backward) {
  Round all{.kind = PatchKind::kFill, .tile = kTile, .query_tiles = {}, .ranges = {}, .first = {}};
  int64_t nearest = 0;
  int64_t farthest = 0;
  for (int64_t i = 0; i < tiles.query_tiles(); ++i) {
    const TileRange filled = tiles.Filled(i);
    if (filled.begin >= filled.end) continue;
    AddPatch(all, i, {filled});
    nearest = std::min(nearest, filled.begin - i);
    farthest = std::max(farthest, filled.end - i);
  }
  if (!backward) {
    rounds_.push_back(all);
    return;
  }
  for (int64_t distance = nearest; distance < farthest; ++distance) {
    Round round{
        .kind = PatchKind::kFill, .tile = kTile, .query_tiles = {}, .ranges = {}, .first = {}};
    for (int64_t i = 0; i < tiles.query_tiles(); ++i) {
      const TileRange filled = tiles.Filled(i);
      const int64_t j = i + distance;
      if (j >= filled.begin && j < filled.end) AddPatch(round, i, {{j, j + 1}});
    }
    if (round.patches > 0) rounds_.push_back(round);
  }
}

// As AddFilled; distances count around the end, or a column that all rows see would need a round
// for each of them twice.
void PatchRounds::AddBlocks(const BlockLayout& layout, bool backward) {
  const int64_t query_blocks = TilesOf(p_.queries, layout.block());
  const int64_t key_blocks = TilesOf(p_.keys, layout.block());
  const auto exact = [&](int64_t i, int64_t j) {
    return j < key_blocks && (!p_.causal || j <= i) && layout.exact(i, j);
  };
  const Round empty{.kind = PatchKind::kReplace,
                    .tile = layout.block(),
                    .query_tiles = {},
                    .ranges = {},
                    .first = {}};
  if (!backward) {
    Round all = empty;
    std::vector<TileRange> ranges;
    for (int64_t i = 0; i < query_blocks; ++i) {
      ranges.clear();
      for (int64_t j = 0; j < key_blocks; ++j) {
        if (!exact(i, j)) continue;
        if (!ranges.empty() && ranges.back().end == j) {
          ++ranges.back().end;
        } else {
          ranges.push_back({j, j + 1});
        }
      }
      AddPatch(all, i, ranges);
    }
    rounds_.push_back(all);
    return;
  }
  const int64_t cycle = std::max(query_blocks, key_blocks);
  for (int64_t distance = 0; distance < cycle; ++distance) {
    Round round = empty;
    for (int64_t i = 0; i < query_blocks; ++i) {
      const int64_t j = (i + distance) % cycle;
      if (exact(i, j)) AddPatch(round, i, {{j, j + 1}});
    }
    if (round.patches > 0) rounds_.push_back(round);
  }
}

PatchRounds::HeadLists PatchRounds::NewHeadLists(const HashBucketTensors& buckets,
                                                 int64_t index) const {
  const auto& hash = std::get<HashSupport>(p_.support);
  const int64_t count = TilesOf(p_.keys, hash.key_bucket);
  const int64_t first = index * hash.rounds;
  return {BucketLists(buckets.queries.data<int32_t>() + first * p_.queries, hash.rounds, p_.queries,
                      count),
          BucketLists(buckets.keys.data<int32_t>() + first * p_.keys, hash.rounds, p_.keys, count)};
}

Patch PatchRounds::At(int64_t round_index, int64_t index, const KeyList& keys,
                      const HeadLists* lists, std::vector<int32_t>& room) const {
  const Round& round = rounds_[round_index];
  if (round.hash_round < 0) return TilePatch(round, index, keys, room);
  const BucketLists::List query_list = lists->queries.In(round.hash_round, index);
  const BucketLists::List key_list = lists->keys.In(round.hash_round, index);
  return {.kind = round.kind,
          .hash_round = round.hash_round,
          .queries = query_list.tokens,
          .query_count = query_list.count,
          .keys = key_list.tokens,
          .key_count = key_list.count};
}

Patch PatchRounds::TilePatch(const Round& round, int64_t index, const KeyList& keys,
                             std::vector<int32_t>& room) const {
  const int64_t first_query = round.query_tiles[index] * round.tile;
  Patch patch{.kind = round.kind,
              .queries = all_queries_.data() + first_query,
              .query_count = std::min(round.tile, p_.queries - first_query)};
  const auto slice = [&](const TileRange& range) {
    return keys.Within(std::min(range.begin * round.tile, p_.keys),
                       std::min(range.end * round.tile, p_.keys));
  };
  if (round.first[index] + 1 == round.first[index + 1]) {
    const KeyList::Slice one = slice(round.ranges[round.first[index]]);
    patch.keys = one.positions;
    patch.key_count = one.count;
    return patch;
  }
  room.clear();
  for (int32_t x = round.first[index]; x < round.first[index + 1]; ++x) {
    const KeyList::Slice part = slice(round.ranges[x]);
    room.insert(room.end(), part.positions, part.positions + part.count);
  }
  patch.keys = room.data();
  patch.key_count = static_cast<int64_t>(room.size());
  return patch;
}

}  // namespace weft::kernels::scatterbrain
