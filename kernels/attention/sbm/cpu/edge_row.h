// The edges of one query as bits, and lists of the keys that they lead to. Private to the CPU
// kernels.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/device/cpu/vector/vector_table.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

// The words of all queries of one head. The tensor's pairs of 32-bit words are words of 64 bits on
// the little-endian machines that this device is for.
struct EdgeRows {
  EdgeRows(const Tensor& bits, int64_t index, int64_t queries)
      : words(bits.dim(3) / 2), first(bits.data<uint32_t>() + index * queries * bits.dim(3)) {}

  [[nodiscard]] uint64_t* Row(int64_t i) const {
    return reinterpret_cast<uint64_t*>(first) + i * words;
  }
  // Of queries [begin, end).
  [[nodiscard]] int64_t Count(const VectorTable& vector, int64_t begin, int64_t end) const {
    return vector.count_bits(Row(begin), (end - begin) * words);
  }

  int64_t words;  // of a query
  uint32_t* first;
};

// Writes the keys of a row's edges in ascending order; returns how many.
inline int64_t ListEdges(const uint64_t* row, int64_t words, int32_t* keys) {
  int64_t count = 0;
  for (int64_t w = 0; w < words; ++w) {
    for (uint64_t left = row[w]; left != 0; left &= left - 1) {
      keys[count++] = static_cast<int32_t>(64 * w + std::countr_zero(left));
    }
  }
  return count;
}

}  // namespace weft::kernels
