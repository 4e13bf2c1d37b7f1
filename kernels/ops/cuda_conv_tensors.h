// Tensors of a convolution as its launchers on CUDA take them: short_conv and conv_norm. For op
// code only.
#pragma once

#include "kernels/ops/cuda_conv_shape.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels::internal {

// Of x [B, T, channels] and w [channels, taps].
inline ConvShape ConvShapeOf(const Tensor& x, const Tensor& w) {
  return {.batch = x.dim(0),
          .tokens = x.dim(1),
          .channels = x.dim(2),
          .taps = static_cast<int>(w.dim(1))};
}

// The address of a tensor that may be absent, or have no elements (one tap has no history).
inline void* AddressOrNull(const Tensor& tensor) {
  return tensor.present() && tensor.count() > 0 ? tensor.address() : nullptr;
}

}  // namespace weft::kernels::internal
