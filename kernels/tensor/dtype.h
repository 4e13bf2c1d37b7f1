// Element types of tensors.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace weft::kernels {

enum class DType : uint8_t {
  kF32,   // compute and state on CPU
  kF64,   // the reference device
  kBf16,  // compute on GPU and TPU
  kI32,   // tokens, exact gradient sums
};

constexpr int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBf16:
      return 2;
  }
  return 0;
}

constexpr absl::string_view NameOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF64:
      return "f64";
    case DType::kBf16:
      return "bf16";
    case DType::kI32:
      return "i32";
  }
  return "?";
}

}  // namespace weft::kernels
