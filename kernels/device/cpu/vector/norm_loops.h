// Layer norm of VectorTable. A part of row_loops.cc: see lanes.h.
#pragma once

#include "kernels/device/cpu/vector/lanes.h"

namespace weft::kernels::WEFT_VECTOR_SET {
namespace {

// Two passes over the row, which its nearest cache holds: the mean of squares minus the square of
// the mean would lose all digits where the mean is large.
void RowLayerNorm(const float* x, const float* w, const float* b, float eps, float* y, float* mean,
                  float* rstd, int64_t n) {
  const auto count = static_cast<float>(n);
  const float centre = RowSum(x, n) / count;
  const float squares = Sum(n, [=](int64_t i, auto extent) {
    const Floats d = Keep(Load(x + i, extent) - All(centre), extent);
    return d * d;
  });
  const float inverse = 1 / __builtin_sqrtf(squares / count + eps);
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats normal = (Load(x + i, extent) - All(centre)) * All(inverse);
    Store(y + i, Load(w + i, extent) * normal + Load(b + i, extent), extent);
  });
  *mean = centre;
  *rstd = inverse;
}

void RowLayerNormBackward(const float* x, const float* w, float mean, float rstd, const float* dy,
                          bool add, float* dx, float* dw, float* db, int64_t n) {
  const float inverse_count = 1 / static_cast<float>(n);
  const float mean_g = RowDot(w, dy, n) * inverse_count;
  const float sum_gx = Sum(n, [=](int64_t i, auto extent) {
    return Load(w + i, extent) * Load(dy + i, extent) * (Load(x + i, extent) - All(mean));
  });
  const float mean_gx = sum_gx * rstd * inverse_count;
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats normal = (Load(x + i, extent) - All(mean)) * All(rstd);
    const Floats slope = Load(dy + i, extent);
    Store(dw + i, Load(dw + i, extent) + slope * normal, extent);
    Store(db + i, Load(db + i, extent) + slope, extent);
    const Floats g = Load(w + i, extent) * slope;
    const Floats value = All(rstd) * (g - All(mean_g) - normal * All(mean_gx));
    Store(dx + i, add ? Load(dx + i, extent) + value : value, extent);
  });
}

}  // namespace
}  // namespace weft::kernels::WEFT_VECTOR_SET
