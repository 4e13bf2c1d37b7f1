#include "worker/model/mixers/key_value_cache.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::worker {

using kernels::Tensor;

absl::StatusOr<KeyValueCache> KeyValueCache::New(const HeadProjections& projections,
                                                 kernels::Device& device, int64_t max_tokens) {
  KeyValueCache cache;
  for (Tensor* tensor : {&cache.keys_, &cache.values_}) {
    WEFT_ASSIGN_OR_RETURN(*tensor, kernels::NewTensor(device, device.compute_dtype(),
                                                      {1, max_tokens, projections.kv_heads(),
                                                       projections.head_width()}));
  }
  return cache;
}

absl::Status KeyValueCache::Append(const Pass& pass, const HeadProjections& projections,
                                   const Tensor& x, Tensor& q) {
  if (tokens_ == keys_.dim(1)) {
    return absl::OutOfRangeError(absl::StrCat("the text is longer than the ", tokens_,
                                              " tokens that its state was made for"));
  }
  const kernels::Shape row = {1, 1, keys_.dim(2), keys_.dim(3)};
  Heads token = {.q = q,
                 .k = keys_.Part(tokens_ * row.count(), row),
                 .v = values_.Part(tokens_ * row.count(), row)};
  WEFT_RETURN_IF_ERROR(projections.Project(pass, x, /*first_position=*/tokens_, token));
  ++tokens_;
  return absl::OkStatus();
}

}  // namespace weft::worker
