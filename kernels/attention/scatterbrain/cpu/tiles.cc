#include "kernels/attention/scatterbrain/cpu/tiles.h"

namespace weft::kernels::scatterbrain {

Tiles::Tiles(const ScatterbrainProblem& problem)
    : p_(problem), window_(std::get_if<WindowSupport>(&problem.support)) {
  if (window_ != nullptr) {
    // A wider window limits nothing.
    const int64_t width = std::min(window_->width, 2 * (p_.queries + p_.keys));
    before_ = width / 2;
    after_ = (width + 1) / 2 - 1;
    if (width <= 2 * kTile) tile_ = kTile / 2;
  }
  const auto* blocks = std::get_if<BlockSupport>(&p_.support);
  if (blocks == nullptr) return;
  const BlockLayout& layout = *blocks->layout;
  const int64_t key_blocks = TilesOf(p_.keys, layout.block());
  complete_blocks_.resize(layout.query_blocks(), true);
  for (int64_t i = 0; i < layout.query_blocks(); ++i) {
    const int64_t end = p_.causal ? std::min(i + 1, key_blocks) : key_blocks;
    for (int64_t j = 0; j < end; ++j) {
      if (!layout.exact(i, j)) complete_blocks_[i] = false;
    }
  }
}

TileRange Tiles::Filled(int64_t query_tile) const {
  if (!fills()) return {};
  if (window_ == nullptr) return {query_tile, query_tile + 1};
  const int64_t first = query_tile * tile_;
  const int64_t last = std::min(first + tile_, p_.queries) - 1;
  const int64_t begin = std::min(std::max<int64_t>(0, first - before_) / tile_, key_tiles());
  const int64_t end =
      p_.causal ? query_tile + 1 : std::min((last + after_) / tile_ + 1, key_tiles());
  return {begin, std::max(begin, end)};
}

TileRange Tiles::Window(int64_t i) const {
  const int64_t begin = std::min(std::max<int64_t>(0, i - before_), p_.keys);
  return {begin, std::max(begin, std::min(i + after_ + 1, p_.keys))};
}

bool Tiles::Complete(int64_t i) const {
  if (p_.drops_corrections()) return false;
  if (window_ != nullptr) return i <= before_ && (p_.causal || i + after_ + 1 >= p_.keys);
  if (const auto* hash = std::get_if<HashSupport>(&p_.support)) return p_.keys <= hash->key_bucket;
  const auto* blocks = std::get_if<BlockSupport>(&p_.support);
  return blocks != nullptr && complete_blocks_[i / blocks->layout->block()];
}

KeyList::KeyList(const int32_t* valid, int64_t keys) : before_(keys + 1) {
  positions_.reserve(keys);
  for (int64_t j = 0; j < keys; ++j) {
    before_[j] = static_cast<int32_t>(positions_.size());
    if (valid == nullptr || valid[j] != 0) positions_.push_back(static_cast<int32_t>(j));
  }
  before_[keys] = static_cast<int32_t>(positions_.size());
}

}  // namespace weft::kernels::scatterbrain
