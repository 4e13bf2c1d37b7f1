// Calls on many rows, some at a time: working space is bounded.
#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "common/base/status_macros.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

// Calls step(first row, rows) for pieces of all rows, of `most` at most.
template <typename Step>
absl::Status ForRowPieces(int64_t rows, int64_t most, const Step& step) {
  for (int64_t first = 0; first < rows; first += most) {
    WEFT_RETURN_IF_ERROR(step(first, std::min(most, rows - first)));
  }
  return absl::OkStatus();
}

inline uint8_t* RowOf(const Tensor& tensor, int64_t row) {
  return static_cast<uint8_t*>(tensor.address()) + row * tensor.dim(-1) * SizeOf(tensor.dtype());
}

}  // namespace weft::kernels
