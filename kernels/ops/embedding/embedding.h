// Rows of a table by token. V tokens in the vocabulary, C channels.
//
// tokens may have any rank; R counts them. A token outside [0, V) is kInvalidArgument that names
// its place.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// tokens i32[R], table[V,C] -> y[R,C] (y: the tokens' shape with C added innermost, or [R,C])
absl::Status EmbeddingForward(Stream& stream, const Tensor& tokens, const Tensor& table, Tensor& y);

// dtable[V,C] += for each row, dy[R,C]; a token's rows are added in their order, on every device
// and for any number of threads.
absl::Status EmbeddingBackward(Stream& stream, const Tensor& tokens, const Tensor& dy,
                               Tensor& dtable);

}  // namespace weft::kernels
