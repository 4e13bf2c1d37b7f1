// Which products the kernels of cuda_product_sm90.cuh take. For op code only.
#pragma once

#include <cstdint>

namespace weft::kernels::product_sm90 {

// Columns that a pair of tiles has, and the inner dimension of a step.
inline constexpr int kPairColumns = 256;
inline constexpr int kDepth = 64;

// Whether there is a kernel for these extents, of one that needs `fewest_steps`: so long it takes
// to make a tile's results beside the products of the next one.
constexpr bool Covers(int64_t columns, int64_t depth, int64_t fewest_steps) {
  return columns > 0 && columns % kPairColumns == 0 && depth % kDepth == 0 &&
         depth >= kDepth * fewest_steps;
}

}  // namespace weft::kernels::product_sm90
