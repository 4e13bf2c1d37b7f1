#include <cmath>

#include "kernels/ops/rotary/rotary_table.h"

namespace weft::kernels::internal {
namespace {

// y = x turned by `sign` times the angles.
void Rotate(const Tensor& x, double base, int64_t first_position, double sign, Tensor& y) {
  const int64_t tokens = x.dim(1);
  const int64_t heads = x.dim(2);
  const int64_t width = x.dim(3);
  const int64_t half = width / 2;
  for (int64_t row = 0; row < x.dim(0) * tokens * heads; ++row) {
    const auto position = static_cast<double>(first_position + row / heads % tokens);
    const double* from = x.data<double>() + row * width;
    double* to = y.data<double>() + row * width;
    for (int64_t i = 0; i < half; ++i) {
      const double exponent = -2 * static_cast<double>(i) / static_cast<double>(width);
      const double angle = sign * position * std::pow(base, exponent);
      const double low = from[i];
      const double high = from[i + half];
      to[i] = low * std::cos(angle) - high * std::sin(angle);
      to[i + half] = low * std::sin(angle) + high * std::cos(angle);
    }
  }
}

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& x, double base,
                              int64_t first_position, Tensor& y) {
  Rotate(x, base, first_position, 1, y);
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& /*stream*/, const Tensor& dy, double base,
                               int64_t first_position, Tensor& dx) {
  Rotate(dy, base, first_position, -1, dx);
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceRotary() {
  rotary_forward.Set(DeviceKind::kReference, ForwardReference);
  rotary_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal
