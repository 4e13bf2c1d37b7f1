// Uniform numbers from random words (philox.h), for the host and for GPUs.
#pragma once

#include <cstdint>

namespace weft::kernels {

// Uniform in [0, 1) with 53 random bits.
constexpr double U53(uint32_t w0, uint32_t w1) {
  return (static_cast<double>(w0 >> 5) * 67108864.0 + static_cast<double>(w1 >> 6)) * 0x1p-53;
}

// Uniform in [0, 1) with 24 random bits, exact in fp32.
constexpr float U24(uint32_t w) { return static_cast<float>(w >> 8) * 0x1p-24F; }

// Uniform in (0, 1), never 0: for use under a logarithm.
constexpr double U32(uint32_t w) { return (static_cast<double>(w) + 0.5) * 0x1p-32; }

}  // namespace weft::kernels
