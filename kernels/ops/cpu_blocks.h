// How CPU ops cut their work: into blocks whose size is fixed, so that bits never depend on the
// number of threads. For op code only.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/device/cpu/cpu_stream.h"

namespace weft::kernels {

// Elements of a block of an elementwise op: 32 KiB of fp32, enough to be worth a thread's while and
// few enough to stay in its nearest cache.
inline constexpr int64_t kElementBlock = 8192;

constexpr int64_t BlocksOf(int64_t total, int64_t block) { return (total + block - 1) / block; }

// How many rows of `width` elements make about one element block: at least 1.
constexpr int64_t RowBlock(int64_t width) {
  return std::max<int64_t>(1, kElementBlock / std::max<int64_t>(1, width));
}

// Calls body(first, count) for every block of [0, total), in parallel.
template <typename Body>
void ForBlocks(CpuStream& stream, int64_t total, int64_t block, const Body& body) {
  stream.ParallelFor(BlocksOf(total, block),
                     [&](int64_t i) { body(i * block, std::min(block, total - i * block)); });
}

}  // namespace weft::kernels
