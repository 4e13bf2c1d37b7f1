// BlockLayout: which tiles of queries and keys a block-sparse support computes exactly. A fixed
// matrix of booleans over blocks of tokens, the same for all heads.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/random/philox.h"

namespace weft::kernels {

class BlockLayout {
 public:
  // Blocks of `block` tokens, none exact yet.
  BlockLayout(int64_t block, int64_t query_blocks, int64_t key_blocks);

  [[nodiscard]] int64_t block() const { return block_; }
  [[nodiscard]] int64_t query_blocks() const { return query_blocks_; }
  [[nodiscard]] int64_t key_blocks() const { return key_blocks_; }
  [[nodiscard]] bool exact(int64_t query_block, int64_t key_block) const {
    return exact_[query_block * key_blocks_ + key_block];
  }
  void Set(int64_t query_block, int64_t key_block) {
    exact_[query_block * key_blocks_ + key_block] = true;
  }
  // The exact share of all tiles; of those with key block <= query block when `causal`.
  [[nodiscard]] double Density(bool causal) const;

 private:
  int64_t block_;
  int64_t query_blocks_;
  int64_t key_blocks_;
  std::vector<bool> exact_;
};

// The customary layouts; a layout is the union of those whose numbers are not 0. All in blocks.
struct BlockPattern {
  int64_t block = 32;  // tokens
  // Key blocks at most window / 2 away from the query block: an odd number, so 3 sees one neighbour
  // on each side. Beltagy et al. 2020, "Longformer".
  int64_t window = 3;
  // The first blocks see all and are seen by all. Also "Longformer".
  int64_t global = 0;
  // So many key blocks a query block, drawn among all; when causal among those up to its own.
  // Zaheer et al. 2020, "Big Bird". Blocks may be drawn that are exact already.
  int64_t random = 0;
  // Groups of so many blocks: a block sees its group, and the last `summary` blocks of every group.
  // Child et al. 2019, "Generating Long Sequences with Sparse Transformers", the fixed pattern.
  int64_t stride = 0;
  int64_t summary = 1;
};

// kInvalidArgument: what of the pattern makes no sense.
absl::Status CheckBlockPattern(const BlockPattern& pattern);

// The layout for this many tokens. Random blocks are drawn at `site` under `seed`, those of query
// block I with primary index I. Of a causal pattern, the rows of a shorter text are those of a
// longer one, so a text may be decoded with the layout of the longest.
absl::StatusOr<std::shared_ptr<const BlockLayout>> NewBlockLayout(const BlockPattern& pattern,
                                                                  int64_t queries, int64_t keys,
                                                                  bool causal, uint64_t seed,
                                                                  const DrawSite& site);

}  // namespace weft::kernels
