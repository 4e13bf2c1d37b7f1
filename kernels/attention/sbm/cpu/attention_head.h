// What the forward and the backward pass of SBM attention on CPU share: one head of one sequence,
// cut into blocks of queries that are computed under a mask or edge by edge. Private to the CPU
// kernels.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/attention/sbm/cpu/edge_row.h"
#include "kernels/attention/sbm/cpu/word_list.h"
#include "kernels/attention/sbm/sbm.h"
#include "kernels/device/cpu/vector/vector_table.h"

namespace weft::kernels {

inline constexpr float kNothing = -std::numeric_limits<float>::infinity();
// 256 x 128 logits are 128 KiB: some matrices of this size fit into a second-level cache. Tiles
// begin at words of the bits.
inline constexpr int64_t kQueryBlock = 256;
inline constexpr int64_t kKeyTile = 128;

struct QueryRows {
  int64_t first;
  int64_t last;  // excluded

  [[nodiscard]] int64_t count() const { return last - first; }
};

class GraphHead {
 public:
  GraphHead(const SbmProblem& p, const VectorTable& vector, const SbmGraph& graph, int64_t index)
      : p_(p),
        vector_(vector),
        edges_(graph.bits, index, p.queries),
        dropped_(p.dropout.Site(p.heads, index / p.heads, index % p.heads)),
        copies_stride_(graph.copies.present() ? 4 * graph.copies.dim(3) : 0),
        copies_(graph.copies.present() && p.sampler == SbmSampler::kPoissonCopies
                    ? reinterpret_cast<const uint8_t*>(graph.copies.data<uint32_t>()) +
                          index * p.queries * copies_stride_
                    : nullptr) {}

  [[nodiscard]] const EdgeRows& edges() const { return edges_; }
  [[nodiscard]] bool drops() const { return p_.dropout.on(); }
  [[nodiscard]] bool counts_copies() const { return copies_ != nullptr; }

  // No edge of a query leads to this key or beyond.
  [[nodiscard]] int64_t KeysEnd(int64_t i) const {
    return p_.causal ? i + p_.keys - p_.queries + 1 : p_.keys;
  }
  // Whether at least a share of the pairs of these queries is linked.
  [[nodiscard]] bool IsDense(QueryRows rows, double share) const;
  [[nodiscard]] bool IsEmpty(QueryRows rows, int64_t begin, int64_t end) const;

  // How many copies each key of [begin, end), or of a list, has for query i.
  void Copies(int64_t i, int64_t begin, int64_t end, float* copies) const;
  void Copies(int64_t i, const int32_t* keys, int64_t count, float* copies) const;

  // x becomes 0 where dropout takes the weight of query i, and grows elsewhere. `x` and `y` (or
  // null) stand for the keys of [begin, end), where begin is a multiple of 4, or of a list.
  void Drop(int64_t i, int64_t begin, int64_t end, float* x, float* y) const;
  void Drop(int64_t i, const int32_t* keys, int64_t count, float* x, float* y) const;

 private:
  void Keep(const uint32_t* words, int64_t count, float* x) const;

  const SbmProblem& p_;
  const VectorTable& vector_;
  EdgeRows edges_;
  DrawSite dropped_;
  int64_t copies_stride_;
  const uint8_t* copies_;  // [T, copies_stride_]; null: every edge counts once
};

}  // namespace weft::kernels
