#include "kernels/attention/scatterbrain/cpu/patches.h"

#include <algorithm>
#include <numeric>

namespace weft::kernels::scatterbrain {
namespace {

// Keys of a patch of the backward pass, about: enough for fast products.
constexpr int64_t kBandKeys = 128;
int64_t BandTiles(int64_t tile) { return std::max<int64_t>(1, kBandKeys / tile); }

}  // namespace

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
  if (tiles.fills()) AddFilled(tiles, backward);
  if (const auto* blocks = std::get_if<BlockSupport>(&p_.support)) {
    AddBlocks(*blocks->layout, backward);
  } else if (const auto* hash = std::get_if<HashSupport>(&p_.support)) {
    for (int64_t round = 0; round < hash->rounds; ++round) {
      Round buckets = EmptyRound(PatchKind::kReplace, 0);
      buckets.hash_round = round;
      buckets.patches = TilesOf(p_.keys, hash->key_bucket);
      rounds_.push_back(buckets);
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

// Forward: all key tiles of a query tile at once.
void PatchRounds::AddFilled(const Tiles& tiles, bool backward) {
  if (backward) {
    TileRange distances;
    for (int64_t i = 0; i < tiles.query_tiles(); ++i) {
      distances.begin = std::min(distances.begin, tiles.Filled(i).begin - i);
      distances.end = std::max(distances.end, tiles.Filled(i).end - i);
    }
    return AddBands(PatchKind::kFill, tiles.tile(), tiles.query_tiles(), tiles.key_tiles(),
                    distances, [&](int64_t i, int64_t j) {
                      const TileRange filled = tiles.Filled(i);
                      return j >= filled.begin && j < filled.end;
                    });
  }
  Round all = EmptyRound(PatchKind::kFill, tiles.tile());
  for (int64_t i = 0; i < tiles.query_tiles(); ++i) {
    const TileRange filled = tiles.Filled(i);
    if (filled.begin < filled.end) AddPatch(all, i, {filled});
  }
  rounds_.push_back(all);
}

void PatchRounds::AddBlocks(const BlockLayout& layout, bool backward) {
  const int64_t query_blocks = TilesOf(p_.queries, layout.block());
  const int64_t key_blocks = TilesOf(p_.keys, layout.block());
  const auto exact = [&](int64_t i, int64_t j) {
    return (!p_.causal || j <= i) && layout.exact(i, j);
  };
  if (backward) {
    // Once around, from behind the query's block: a window near it is then one band.
    const int64_t behind = BandTiles(layout.block()) / 2;
    const int64_t blocks = std::max(query_blocks, key_blocks);
    return AddBands(PatchKind::kReplace, layout.block(), query_blocks, key_blocks,
                    {-behind, blocks - behind}, exact);
  }
  Round all = EmptyRound(PatchKind::kReplace, layout.block());
  for (int64_t i = 0; i < query_blocks; ++i) AddPatch(all, i, Runs(0, key_blocks, i, exact));
  rounds_.push_back(all);
}

// The runs of tiles [begin, end) that tile i of the queries meets.
template <typename Meets>
std::vector<TileRange> PatchRounds::Runs(int64_t begin, int64_t end, int64_t i,
                                         const Meets& meets) {
  std::vector<TileRange> runs;
  for (int64_t j = begin; j < end; ++j) {
    if (!meets(i, j)) continue;
    if (!runs.empty() && runs.back().end == j) {
      ++runs.back().end;
    } else {
      runs.push_back({j, j + 1});
    }
  }
  return runs;
}

// Backward, no two patches of a round share a key tile. Tiles of queries and keys stand around a
// circle. A patch is a tile of queries and a band of `band` neighbouring key tiles at some distance
// from it; a round has the patches of one distance whose query tiles are `band` apart.
template <typename Meets>
void PatchRounds::AddBands(PatchKind kind, int64_t tile, int64_t query_tiles, int64_t key_tiles,
                           TileRange distances, const Meets& meets) {
  const int64_t band = BandTiles(tile);
  const int64_t longest = std::max({query_tiles, key_tiles, distances.end - distances.begin});
  const int64_t circle = TilesOf(longest, band) * band;
  for (int64_t distance = distances.begin; distance < distances.end; distance += band) {
    for (int64_t first = 0; first < band; ++first) {
      Round round = EmptyRound(kind, tile);
      for (int64_t i = first; i < query_tiles; i += band) {
        // In order of the keys: the part of the band that has gone around comes first.
        const int64_t begin = ((i + distance) % circle + circle) % circle;
        std::vector<TileRange> runs = Runs(0, std::min(begin + band - circle, key_tiles), i, meets);
        for (const TileRange& run : Runs(begin, std::min(begin + band, key_tiles), i, meets)) {
          runs.push_back(run);
        }
        AddPatch(round, i, runs);
      }
      if (round.patches > 0) rounds_.push_back(std::move(round));
    }
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
