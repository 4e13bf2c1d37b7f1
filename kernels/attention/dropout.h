// Dropout of attention weights. Whether a pair (query, key) is kept is a pure function of the seed
// and of where the pair stands in the job, so the backward pass draws it again instead of storing
// it, and the draw depends on no device, thread or cut of the batch.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/random/philox.h"

namespace weft::kernels {

// Weights are multiplied by 0 with this probability and by 1 / (1 - probability) otherwise.
struct AttentionDropout {
  double probability = 0.0;  // in [0, 1); 0: no dropout, and nothing is drawn
  uint64_t seed = 0;
  int64_t step = 0;            // of the optimizer, below 2^28
  int64_t layer = 0;           // below 2^12
  int64_t first_sequence = 0;  // number of the call's first sequence in the step's whole batch

  [[nodiscard]] bool on() const { return probability > 0.0; }
  // 1 / (1 - probability).
  [[nodiscard]] double factor() const { return 1.0 / (1.0 - probability); }
  // A pair is dropped when its random word lies below.
  [[nodiscard]] uint32_t threshold() const {
    return static_cast<uint32_t>(probability * 4294967296.0);
  }
  // Of one head of one sequence of the call.
  [[nodiscard]] DrawSite Site(int64_t heads, int64_t sequence, int64_t head) const {
    return {.tag = RandomTag::kAttentionDropout,
            .step = static_cast<uint32_t>(step),
            .layer = static_cast<uint32_t>(layer),
            .sample = static_cast<uint32_t>((first_sequence + sequence) * heads + head)};
  }
};

// kInvalidArgument, beginning with the mechanism's name: a probability outside [0, 1), or draws
// whose place does not fit into a counter.
absl::Status CheckDropout(absl::string_view mechanism, const AttentionDropout& dropout,
                          int64_t batch, int64_t heads);

// The random word of a pair at dropout.Site(...): word key % 4 of the block (query, key / 4).
inline uint32_t DropoutWord(const AttentionDropout& dropout, const DrawSite& site, int64_t query,
                            int64_t key) {
  return Draw(dropout.seed, site, static_cast<uint32_t>(query),
              static_cast<uint32_t>(key / 4))[static_cast<size_t>(key % 4)];
}

// What the weight of a pair is multiplied by.
inline double DropoutFactor(const AttentionDropout& dropout, const DrawSite& site, int64_t query,
                            int64_t key) {
  return DropoutWord(dropout, site, query, key) < dropout.threshold() ? 0.0 : dropout.factor();
}

}  // namespace weft::kernels
