// KeyValueCache: the keys and values of all tokens that one text has had so far, for mechanisms
// that decode by looking back at them.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/tensor/tensor.h"
#include "worker/model/mixers/head_projections.h"

namespace weft::worker {

class KeyValueCache {
 public:
  KeyValueCache() = default;  // holds nothing
  static absl::StatusOr<KeyValueCache> New(const HeadProjections& projections,
                                           kernels::Device& device, int64_t max_tokens);

  // Projects the text's next token x [1, 1, C] to its query q [1, 1, H, D] and to a key and a value
  // that are kept. kOutOfRange when the cache is full.
  absl::Status Append(const Pass& pass, const HeadProjections& projections,
                      const kernels::Tensor& x, kernels::Tensor& q);

  [[nodiscard]] int64_t tokens() const { return tokens_; }
  // [1, tokens(), Hk, D]
  [[nodiscard]] kernels::Tensor keys() const { return Seen(keys_); }
  [[nodiscard]] kernels::Tensor values() const { return Seen(values_); }

 private:
  [[nodiscard]] kernels::Tensor Seen(const kernels::Tensor& all) const {
    return all.Part(0, {1, tokens_, all.dim(2), all.dim(3)});
  }

  kernels::Tensor keys_, values_;  // [1, max_tokens, Hk, D]; the first tokens_ rows are filled
  int64_t tokens_ = 0;
};

}  // namespace weft::worker
