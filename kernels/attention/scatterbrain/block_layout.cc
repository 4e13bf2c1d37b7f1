#include "kernels/attention/scatterbrain/block_layout.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace weft::kernels {

BlockLayout::BlockLayout(int64_t block, int64_t query_blocks, int64_t key_blocks)
    : block_(block),
      query_blocks_(query_blocks),
      key_blocks_(key_blocks),
      exact_(query_blocks * key_blocks, false) {
  WEFT_CHECK(block > 0 && query_blocks >= 0 && key_blocks >= 0);
}

double BlockLayout::Density(bool causal) const {
  int64_t tiles = 0;
  int64_t exact_tiles = 0;
  for (int64_t i = 0; i < query_blocks_; ++i) {
    const int64_t end = causal ? std::min(i + 1, key_blocks_) : key_blocks_;
    for (int64_t j = 0; j < end; ++j) {
      ++tiles;
      if (exact(i, j)) ++exact_tiles;
    }
  }
  return tiles == 0 ? 0.0 : static_cast<double>(exact_tiles) / static_cast<double>(tiles);
}

absl::Status CheckBlockPattern(const BlockPattern& p) {
  if (p.block < 1) {
    return absl::InvalidArgumentError(absl::StrCat("block ", p.block, " is not positive"));
  }
  if (p.window < 0 || (p.window > 0 && p.window % 2 == 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("window ", p.window, " is neither odd nor 0: its own block is in the middle"));
  }
  if (p.global < 0 || p.random < 0 || p.stride < 0) {
    return absl::InvalidArgumentError(absl::StrCat("global ", p.global, ", random ", p.random,
                                                   ", stride ", p.stride, ": none is negative"));
  }
  if (p.stride > 0 && (p.summary < 0 || p.summary > p.stride)) {
    return absl::InvalidArgumentError(
        absl::StrCat("summary ", p.summary, " is not in 0 ... stride ", p.stride));
  }
  if (p.window == 0 && p.global == 0 && p.random == 0 && p.stride == 0) {
    return absl::InvalidArgumentError("window, global, random and stride are all 0: no exact tile");
  }
  return absl::OkStatus();
}

namespace {

bool InPattern(const BlockPattern& p, int64_t i, int64_t j) {
  if (p.window > 0 && std::abs(i - j) <= p.window / 2) return true;
  if (i < p.global || j < p.global) return true;
  return p.stride > 0 && (i / p.stride == j / p.stride || j % p.stride >= p.stride - p.summary);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const BlockLayout>> NewBlockLayout(const BlockPattern& pattern,
                                                                  int64_t queries, int64_t keys,
                                                                  bool causal, uint64_t seed,
                                                                  const DrawSite& site) {
  WEFT_RETURN_IF_ERROR(CheckBlockPattern(pattern));
  const int64_t query_blocks = (queries + pattern.block - 1) / pattern.block;
  const int64_t key_blocks = (keys + pattern.block - 1) / pattern.block;
  auto layout = std::make_shared<BlockLayout>(pattern.block, query_blocks, key_blocks);
  for (int64_t i = 0; i < query_blocks; ++i) {
    const int64_t seen = causal ? std::min(i + 1, key_blocks) : key_blocks;
    for (int64_t j = 0; j < seen; ++j) {
      if (InPattern(pattern, i, j)) layout->Set(i, j);
    }
    for (int64_t n = 0; n < pattern.random && seen > 0; ++n) {
      const PhiloxWords words =
          Draw(seed, site, static_cast<uint32_t>(i), static_cast<uint32_t>(n));
      layout->Set(i, static_cast<int64_t>(ChooseBelow(words[0], words[1], seen)));
    }
  }
  return layout;
}

}  // namespace weft::kernels
