// The integers in which graphs are drawn: what every device must do alike. Private to
// kernels/attention/sbm.
//
// For query i, with n_i keys that it may be linked to:
//
//   a_iu = round(2^20 y_iu)   k_jv = round(2^20 z_jv)   s_uv = round(2^32 S_uv)
//   w_iv = floor(sum_u a_iu s_uv / 2^20)                the sums are at most 2^52 (1 + K^2 / 2^33)
//   P_ij = sum_v w_iv k_jv                              p_ij = 2^-52 P_ij
//   Y_iv = sum of k_jv over the n_i keys                shortened by d = max(0, bits of n_i - 11)
//   r_iv = w_iv floor(Y_iv / 2^d)   r_iK = round(2^32 exploration) floor(2^20 n_i / 2^d)
//
// With Lambda = sum_v r_iv < 2^64 the expected number of edges is 2^(d - 52) Lambda. An edge's
// cluster is the first v whose running sum of r exceeds mulhi(words 0 and 1, Lambda); its key the
// first j whose running sum of k exceeds mulhi(words 2 and 3, Y_iv), and for v = K number
// mulhi(words 2 and 3, n_i) of the n_i.
//
// Words: a count at (position, attempt), an edge at (position, edge), a thinning at (position,
// key), a pair by itself at (position, key / 4), word key % 4.
#pragma once

#include "kernels/attention/sbm/sampling_units.h"
#include "kernels/attention/sbm/sbm.h"
#include "kernels/random/philox.h"

namespace weft::kernels {

// The draws of one purpose for one head of one sequence. Outside training all purposes share a tag
// and take their ordinals from quarters of their range.
struct GraphDraws {
  GraphDraws(const SbmDraws& draws, RandomTag purpose, int64_t heads, int64_t batch, int64_t head)
      : seed(draws.seed),
        site{.tag = draws.training ? purpose : RandomTag::kEvaluation,
             .step = draws.step,
             .layer = draws.layer,
             .sample = static_cast<uint32_t>((draws.first_sequence + batch) * heads + head)},
        first_ordinal(draws.training ? 0 : Quarter(purpose) << 30) {}

  [[nodiscard]] PhiloxWords Words(int64_t position, int64_t ordinal) const {
    return Draw(seed, site, static_cast<uint32_t>(position),
                first_ordinal + static_cast<uint32_t>(ordinal));
  }

  uint64_t seed;
  DrawSite site;
  uint32_t first_ordinal;

 private:
  static uint32_t Quarter(RandomTag purpose) {
    switch (purpose) {
      case RandomTag::kRowCounts:
        return 1;
      case RandomTag::kEdgeEndpoints:
        return 2;
      case RandomTag::kThinning:
        return 3;
      default:
        return 0;
    }
  }
};

}  // namespace weft::kernels
