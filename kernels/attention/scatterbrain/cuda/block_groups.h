// What a support means for the GPU's tiles, made on the host: which groups of 32 tokens a tile of
// 64 meets in a block layout, and which queries see nothing but exact pairs. Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention/scatterbrain/scatterbrain.h"

namespace weft::kernels::scatterbrain_cuda {

// Of tile I: groups[starts[I]] ... groups[starts[I + 1] - 1], ascending.
struct BlockGroups {
  std::vector<int32_t> groups;
  std::vector<int32_t> starts;  // [tiles + 1]
};

// Tiles of queries and the groups of keys that an exact block links them with, and the other way
// round. A causal problem leaves out keys after all queries.
BlockGroups GroupsByQueries(const BlockLayout& layout, int64_t queries, int64_t keys, bool causal);
BlockGroups GroupsByKeys(const BlockLayout& layout, int64_t queries, int64_t keys, bool causal);

// [query blocks, key blocks]: 1 where exact.
std::vector<uint8_t> ExactBlocks(const BlockLayout& layout);

// [T]: 1 where the support covers all keys that a query could see and nothing needs its low-rank
// part; empty: nowhere. Padding is left to the caller: a query in no bucket is not complete.
std::vector<uint8_t> CompleteQueries(const ScatterbrainProblem& problem);

}  // namespace weft::kernels::scatterbrain_cuda
