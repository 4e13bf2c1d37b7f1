// Feature maps of VectorTable. A part of row_loops.cc: see lanes.h.
#pragma once

#include "kernels/device/cpu/vector/lanes.h"

namespace weft::kernels::WEFT_VECTOR_SET {
namespace {

void RowShiftedExp(const float* x, float shift, float floor, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, Exp(Load(x + i, extent) - All(shift)) + All(floor), extent);
  });
}

void RowSquare(const float* x, float floor, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats v = Load(x + i, extent);
    Store(y + i, v * v + All(floor), extent);
  });
}

void RowRelu(const float* x, float floor, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats v = Load(x + i, extent);
    Store(y + i, Select(v < All(0), All(0), v) + All(floor), extent);
  });
}

void RowReluBackward(const float* x, const float* dy, float* dx, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(dx + i, Select(Load(x + i, extent) > All(0), Load(dy + i, extent), All(0)), extent);
  });
}

void RowElu1(const float* x, float floor, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats v = Load(x + i, extent);
    Store(y + i, Select(v > All(0), v + All(1), Exp(v)) + All(floor), extent);
  });
}

void RowElu1Backward(const float* x, const float* dy, float* dx, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats v = Load(x + i, extent);
    const Floats d = Load(dy + i, extent);
    Store(dx + i, Select(v > All(0), d, d * Exp(v)), extent);
  });
}

void RowMagnitude(const float* x, float floor, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, Magnitude(Load(x + i, extent)) + All(floor), extent);
  });
}

void RowMagnitudeBackward(const float* x, const float* dy, float* dx, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats v = Load(x + i, extent);
    const Floats d = Load(dy + i, extent);
    Store(dx + i, Select(v > All(0), d, Select(v < All(0), -d, All(0))), extent);
  });
}

}  // namespace
}  // namespace weft::kernels::WEFT_VECTOR_SET
