// Checks of operands that the mechanisms share. Private to kernels/attention.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

// Refuses a tensor that is absent, lies on another device, or has another shape than `shape` or
// another type than the device computes in.
inline absl::Status CheckOperand(const Device& device, absl::string_view name, const Tensor& tensor,
                                 const Shape& shape) {
  if (!tensor.present()) return absl::InvalidArgumentError(absl::StrCat(name, " is absent"));
  if (&tensor.device() != &device) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " lies on another device than the stream"));
  }
  if (tensor.dtype() != device.compute_dtype() || tensor.shape() != shape) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is ", tensor.ToString(), ", not ",
                                                   NameOf(device.compute_dtype()),
                                                   shape.ToString()));
  }
  return absl::OkStatus();
}

// The same for an operand that may be absent.
inline absl::Status CheckOptionalOperand(const Device& device, absl::string_view name,
                                         const Tensor& tensor, const Shape& shape) {
  return tensor.present() ? CheckOperand(device, name, tensor, shape) : absl::OkStatus();
}

}  // namespace weft::kernels
