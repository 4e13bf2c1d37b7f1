// How the CPU cuts a Scatterbrain problem, and which keys a tile of queries meets pair by pair. All
// of it follows from the problem alone. Private to the CPU kernels of scatterbrain.
//
// The low-rank part of most pairs is never written out: it comes from sums over tiles of keys. Near
// a causal diagonal and in a window it is: the "filled" tiles of a query tile hold one weight a
// pair, exact or low-rank, and the sums leave those keys out. So a window never subtracts anything.
// The pairs of hashes and blocks lie anywhere: there the sums hold all keys, and a pair's exact
// weight replaces its low-rank weight by adding their difference.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/attention/scatterbrain/scatterbrain.h"

namespace weft::kernels::scatterbrain {

inline constexpr int64_t kTile = 64;  // tokens

struct TileRange {
  int64_t begin = 0;
  int64_t end = 0;
};

constexpr int64_t TilesOf(int64_t tokens, int64_t tile = kTile) {
  return (tokens + tile - 1) / tile;
}

// The tokens of a tile among `tokens`.
struct TileRows {
  TileRows(int64_t index, int64_t tokens, int64_t tile = kTile)
      : first(index * tile), last(std::min(first + tile, tokens)) {}
  [[nodiscard]] int64_t count() const { return last - first; }
  int64_t first;
  int64_t last;
};

class Tiles {
 public:
  explicit Tiles(const ScatterbrainProblem& problem);

  // Tokens of the tiles that are filled in, and of those that are summed. Half as many pairs are
  // written out in small tiles, but their products are slower.
  [[nodiscard]] int64_t tile() const { return tile_; }
  [[nodiscard]] int64_t query_tiles() const { return TilesOf(p_.queries, tile_); }
  [[nodiscard]] int64_t key_tiles() const { return TilesOf(p_.keys, tile_); }

  // Whether tiles are filled in at all.
  [[nodiscard]] bool fills() const { return p_.causal || window_ != nullptr; }
  // The key tiles that query tile I fills in. Both ends grow with I, or stay.
  [[nodiscard]] TileRange Filled(int64_t query_tile) const;
  // The keys of a window, cut to those that exist.
  [[nodiscard]] TileRange Window(int64_t i) const;
  // Whether the support covers all keys that query i could see, and nothing needs the low-rank
  // part.
  [[nodiscard]] bool Complete(int64_t i) const;

 private:
  const ScatterbrainProblem& p_;
  const WindowSupport* window_;  // null: another support
  int64_t tile_ = kTile;
  int64_t before_ = 0;  // of a window: keys before the query
  int64_t after_ = 0;   // and after it
  std::vector<bool> complete_blocks_;
};

// The keys of one sequence that are not padding, in order.
class KeyList {
 public:
  // `valid`: [keys], null when there is no padding.
  KeyList(const int32_t* valid, int64_t keys);

  // The listed positions within [begin, end).
  struct Slice {
    const int32_t* positions;
    int64_t count;
  };
  [[nodiscard]] Slice Within(int64_t begin, int64_t end) const {
    return {positions_.data() + before_[begin], before_[end] - before_[begin]};
  }
  [[nodiscard]] bool Holds(int64_t key) const { return before_[key + 1] > before_[key]; }

 private:
  std::vector<int32_t> positions_;
  std::vector<int32_t> before_;  // [keys + 1]: listed keys before a position
};

}  // namespace weft::kernels::scatterbrain
