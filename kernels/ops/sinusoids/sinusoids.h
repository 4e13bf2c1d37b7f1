// Fixed positions: the token at position p has sin(p f_i) and cos(p f_i), f_i = 10000^(-2i/K), for
// i below K/2. Vaswani et al. 2017, "Attention is all you need", section 3.5.
//
// Angles are computed in fp64 on every device. T tokens, K columns (even) of C.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

enum class SinusoidOrder : uint8_t {
  kInterleaved,  // sin 0, cos 0, sin 1, cos 1, ...
  kHalves,       // all sines, then all cosines
};

struct SinusoidOptions {
  SinusoidOrder order = SinusoidOrder::kInterleaved;
  int64_t first_position = 0;  // of row 0
  int64_t first_column = 0;    // K columns from here on
  int64_t columns = 0;
};

// Writes those columns of table[T,C]; the others are left alone.
absl::Status Sinusoids(Stream& stream, const SinusoidOptions& options, Tensor& table);

}  // namespace weft::kernels
