#include "kernels/attention/scatterbrain/cuda/block_groups.h"

#include <algorithm>

namespace weft::kernels::scatterbrain_cuda {
namespace {

constexpr int64_t kTile = 64;
constexpr int64_t kGroup = 32;

int64_t Parts(int64_t count, int64_t part) { return (count + part - 1) / part; }

// Blocks of a layout that tokens begin ... begin + count - 1, cut at `end`, lie in.
struct Blocks {
  Blocks(const BlockLayout& layout, int64_t begin, int64_t count, int64_t end)
      : first(begin / layout.block()), last((std::min(begin + count, end) - 1) / layout.block()) {}
  int64_t first, last;
};

bool Meet(const BlockLayout& layout, const Blocks& queries, const Blocks& keys) {
  for (int64_t i = queries.first; i <= queries.last; ++i) {
    for (int64_t j = keys.first; j <= keys.last; ++j) {
      if (layout.exact(i, j)) return true;
    }
  }
  return false;
}

// Calls meets(tile, group) for all of both.
template <typename Meets>
BlockGroups Groups(int64_t tiles, int64_t groups, const Meets& meets) {
  BlockGroups result;
  result.starts.push_back(0);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    for (int64_t group = 0; group < groups; ++group) {
      if (meets(tile, group)) result.groups.push_back(static_cast<int32_t>(group));
    }
    result.starts.push_back(static_cast<int32_t>(result.groups.size()));
  }
  return result;
}

bool CompleteBlocks(const BlockLayout& layout, const ScatterbrainProblem& p, int64_t query) {
  const int64_t block = query / layout.block();
  const int64_t all = Parts(p.keys, layout.block());
  const int64_t end = p.causal ? std::min(block + 1, all) : all;
  for (int64_t j = 0; j < end; ++j) {
    if (!layout.exact(block, j)) return false;
  }
  return true;
}

}  // namespace

BlockGroups GroupsByQueries(const BlockLayout& layout, int64_t queries, int64_t keys, bool causal) {
  return Groups(Parts(queries, kTile), Parts(keys, kGroup), [&](int64_t tile, int64_t group) {
    if (causal && group * kGroup >= (tile + 1) * kTile) return false;
    return Meet(layout, Blocks(layout, tile * kTile, kTile, queries),
                Blocks(layout, group * kGroup, kGroup, keys));
  });
}

BlockGroups GroupsByKeys(const BlockLayout& layout, int64_t queries, int64_t keys, bool causal) {
  return Groups(Parts(keys, kTile), Parts(queries, kGroup), [&](int64_t tile, int64_t group) {
    if (causal && (group + 1) * kGroup <= tile * kTile) return false;
    return Meet(layout, Blocks(layout, group * kGroup, kGroup, queries),
                Blocks(layout, tile * kTile, kTile, keys));
  });
}

std::vector<uint8_t> ExactBlocks(const BlockLayout& layout) {
  std::vector<uint8_t> exact;
  for (int64_t i = 0; i < layout.query_blocks(); ++i) {
    for (int64_t j = 0; j < layout.key_blocks(); ++j) {
      exact.push_back(layout.exact(i, j) ? 1 : 0);
    }
  }
  return exact;
}

std::vector<uint8_t> CompleteQueries(const ScatterbrainProblem& p) {
  std::vector<uint8_t> complete;
  const auto* window = std::get_if<WindowSupport>(&p.support);
  const auto* blocks = std::get_if<BlockSupport>(&p.support);
  if (p.drops_corrections() || (window == nullptr && blocks == nullptr)) return complete;
  for (int64_t i = 0; i < p.queries; ++i) {
    if (window != nullptr) {
      const int64_t width = std::min(window->width, 2 * (p.queries + p.keys));
      const bool all_before = i <= width / 2;
      const bool all_after = p.causal || i + (width + 1) / 2 >= p.keys;
      complete.push_back(all_before && all_after ? 1 : 0);
    } else {
      complete.push_back(CompleteBlocks(*blocks->layout, p, i) ? 1 : 0);
    }
  }
  return complete;
}

}  // namespace weft::kernels::scatterbrain_cuda
