// The shapes of a convolution on CUDA, for launchers of short_conv and conv_norm. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels {

struct ConvShape {
  int64_t batch = 0, tokens = 0, channels = 0;
  int taps = 0;
};
// y = scale * a * n, n = 1 / sqrt(sum(a^2) + eps) over the channels of a head.
struct ConvHeadNorm {
  float eps = 0, scale = 1;
  float* inverse = nullptr;  // n: [B, T, heads]; written forward, read backward
};

// Tokens of a piece of the backward pass, whose dw is one partial sum.
inline constexpr int kConvBackPiece = 64;
// Floats of working space that the backward pass takes for dw.
inline int64_t ConvPartials(const ConvShape& shape) {
  return shape.batch * ((shape.tokens + kConvBackPiece - 1) / kConvBackPiece) * shape.channels *
         shape.taps;
}

}  // namespace weft::kernels
