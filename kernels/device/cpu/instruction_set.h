// Which vector units a CPU offers. One program holds code for all of them and chooses when it
// starts; the choice decides the bits of results (Device::device_class).
#pragma once

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace weft::kernels {

// Ordered: a CPU that offers one offers all before it.
enum class InstructionSet : uint8_t {
  kSse2,    // every x86-64
  kAvx2,    // AVX2 and FMA, 2013 and later
  kAvx512,  // AVX-512 F, BW, DQ and VL
};
inline constexpr std::array kInstructionSets = {InstructionSet::kSse2, InstructionSet::kAvx2,
                                                InstructionSet::kAvx512};

constexpr absl::string_view NameOf(InstructionSet set) {
  switch (set) {
    case InstructionSet::kSse2:
      return "sse2";
    case InstructionSet::kAvx2:
      return "avx2";
    case InstructionSet::kAvx512:
      return "avx512";
  }
  return "?";
}

// The best one that this machine has and its operating system lets us use.
InstructionSet BestInstructionSet();

}  // namespace weft::kernels
