// Copies between a tensor and some columns of a wider one: concatenation along the innermost
// dimension and its inverse. R rows; any type, the same for both.
//
// Both tensors may have any rank; their innermost extents are K and C and the rest are rows. A
// sequence [B, T, C] seen as [B, T * C] makes columns of tokens.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// to[r, at + k] = from[r, k]: from[R,K], to[R,C], at + K <= C. Other columns are left alone.
absl::Status PutColumns(Stream& stream, const Tensor& from, int64_t at, Tensor& to);

// to[r, k] = from[r, at + k]: from[R,C], to[R,K], at + K <= C.
absl::Status TakeColumns(Stream& stream, const Tensor& from, int64_t at, Tensor& to);

}  // namespace weft::kernels
