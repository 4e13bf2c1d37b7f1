// Rotary position embedding over the whole head: the pair (x_i, x_{i+D/2}) of the token at position
// p is turned by the angle p * base^(-2i/D). Su et al., "RoFormer".
//
// Token t of every sequence has position first_position + t. Angles are computed in fp64 on every
// device. D is even.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// x[B,T,H,D] -> y[B,T,H,D]. y may be x itself.
absl::Status RotaryForward(Stream& stream, const Tensor& x, double base, int64_t first_position,
                           Tensor& y);

// The turn by the negative angle: dy[B,T,H,D] -> dx[B,T,H,D]. dx may be dy itself.
absl::Status RotaryBackward(Stream& stream, const Tensor& dy, double base, int64_t first_position,
                            Tensor& dx);

}  // namespace weft::kernels
