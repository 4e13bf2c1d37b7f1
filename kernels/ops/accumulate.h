// Whether a gradient replaces what the result held or is added to it.
#pragma once

#include <cstdint>

namespace weft::kernels {

enum class Accumulate : uint8_t { kNo, kYes };

}  // namespace weft::kernels
