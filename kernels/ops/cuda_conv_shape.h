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

// Tokens of a piece, which a thread works on: short ones where long ones would be too few threads
// for a large GPU. A rule by the shape alone, since dw of a piece is one partial sum.
inline constexpr int kLongConvPiece = 128;
inline constexpr int kShortConvPiece = 32;
inline bool HasLongPieces(const ConvShape& shape) {
  return shape.batch * shape.tokens * shape.channels >= int64_t{1} << 24;
}
inline int64_t ConvPieces(const ConvShape& shape) {
  const int piece = HasLongPieces(shape) ? kLongConvPiece : kShortConvPiece;
  return (shape.tokens + piece - 1) / piece;
}
// Floats of working space that the backward pass takes for dw.
inline int64_t ConvPartials(const ConvShape& shape) {
  return shape.batch * ConvPieces(shape) * shape.channels * shape.taps;
}

}  // namespace weft::kernels
