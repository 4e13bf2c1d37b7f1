// Exponentials and activations of VectorTable. A part of row_loops.cc: see lanes.h.
#pragma once

#include "kernels/device/cpu/vector/lanes.h"

namespace weft::kernels::WEFT_VECTOR_SET {
namespace {

Floats Sigmoid(Floats x) { return All(1) / (All(1) + Exp(-x)); }

// The derivative of silu where s = Sigmoid(x).
Floats SiluSlope(Floats x, Floats s) { return s * (All(1) + x * (All(1) - s)); }

// Below 0.625 an odd polynomial (relative error 2e-8), from there on 1 - 2 / (exp(2|x|) + 1): small
// results keep their relative precision.
Floats Tanh(Floats x) {
  const Floats magnitude = Magnitude(x);
  const Floats z = x * x;
  Floats p = All(-0.006096714166F);
  p = p * z + All(0.020997179F);
  p = p * z + All(-0.05385090958F);
  p = p * z + All(0.1333276974F);
  p = p * z + All(-0.3333332894F);
  const Floats small = x + x * z * p;
  const Floats large = All(1) - All(2) / (Exp(magnitude + magnitude) + All(1));
  return Select(magnitude < All(0.625F), small, Select(x < All(0), -large, large));
}

// The standard normal distribution at x: its integral up to x, and exp(-x^2 / 2).
struct Bell {
  Floats below;
  Floats height;
};

// Below zero the integral is exp(-x^2 / 2) R(|x|), and R(a) (a + 4) a polynomial of (a - 4) / (a +
// 4) (Chebyshev interpolation over a in [0, 14], relative error 3e-8): the tail keeps its relative
// precision. Beyond 14 it is zero in fp32.
Bell BellAt(Floats x) {
  // The first 12 bits of x have an exact square.
  const Floats high = __builtin_bit_cast(Floats, __builtin_bit_cast(Uints, x) & 0xFFFFF000U);
  const Floats height = Exp(high * high * All(-0.5F), (high - x) * (high + x) * All(0.5F));
  Floats a = Magnitude(x);
  a = Select(a > All(14), All(14), a);
  const Floats inverse = All(1) / (a + All(4));
  const Floats s = (a - All(4)) * inverse;
  Floats p = All(-0.0001201844011F);
  p = p * s + All(0.0002012617303F);
  p = p * s + All(0.001572317879F);
  p = p * s + All(-0.0035261837F);
  p = p * s + All(-0.007529250703F);
  p = p * s + All(0.06040668873F);
  p = p * s + All(-0.1865226849F);
  p = p * s + All(0.3871366841F);
  p = p * s + All(-0.6078966183F);
  p = p * s + All(0.7552851383F);
  const Floats tail = height * p * inverse;
  return {Select(x > All(0), All(1) - tail, tail), height};
}

// The tanh form of GELU is x s(z), z = 2 sqrt(2 / pi) (x + 0.044715 x^3).
constexpr float kGeluLinear = 1.5957691216F;
constexpr float kGeluCubic = 0.0713548163F;

void RowExp(const float* x, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) { Store(y + i, Exp(Load(x + i, extent)), extent); });
}

float RowExpSum(float factor, const float* x, float shift, float* y, int64_t n) {
  return Sum(n, [=](int64_t i, auto extent) {
    const Floats e = Exp(All(factor) * Load(x + i, extent) - All(shift));
    Store(y + i, e, extent);
    return Keep(e, extent);
  });
}

void RowSilu(const float* x, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats v = Load(x + i, extent);
    Store(y + i, v * Sigmoid(v), extent);
  });
}

void RowSiluBackward(const float* x, const float* dy, float* dx, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats v = Load(x + i, extent);
    Store(dx + i, Load(dy + i, extent) * SiluSlope(v, Sigmoid(v)), extent);
  });
}

void RowSigmoid(const float* x, float factor, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, All(factor) * Sigmoid(Load(x + i, extent)), extent);
  });
}

void RowSigmoidBackward(const float* y, float factor, const float* dy, float* dx, int64_t n) {
  const float inverse = 1 / factor;
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats v = Load(y + i, extent);
    Store(dx + i, Load(dy + i, extent) * v * (All(1) - v * All(inverse)), extent);
  });
}

void RowSwiglu(const float* gate, const float* up, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats g = Load(gate + i, extent);
    Store(y + i, g * Sigmoid(g) * Load(up + i, extent), extent);
  });
}

void RowSwigluBackward(const float* gate, const float* up, const float* dy, float* dgate,
                       float* dup, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats g = Load(gate + i, extent);
    const Floats u = Load(up + i, extent);
    const Floats d = Load(dy + i, extent);
    const Floats s = Sigmoid(g);
    Store(dgate + i, d * u * SiluSlope(g, s), extent);
    Store(dup + i, d * (g * s), extent);
  });
}

void RowTanh(float factor, const float* x, float* y, int64_t n) {
  const float inverse = 1 / factor;
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, All(factor) * Tanh(Load(x + i, extent) * All(inverse)), extent);
  });
}

void RowTanhBackward(const float* y, float factor, const float* dy, float* dx, int64_t n) {
  const float inverse = 1 / factor;
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats t = Load(y + i, extent) * All(inverse);
    Store(dx + i, Load(dy + i, extent) * (All(1) - t * t), extent);
  });
}

void RowGelu(const float* x, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats v = Load(x + i, extent);
    Store(y + i, v * BellAt(v).below, extent);
  });
}

void RowGeluBackward(const float* x, const float* dy, float* dx, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats v = Load(x + i, extent);
    const Bell bell = BellAt(v);
    const Floats slope = bell.below + v * bell.height * All(0.3989422804F);  // 1 / sqrt(2 pi)
    Store(dx + i, Load(dy + i, extent) * slope, extent);
  });
}

void RowGeluTanh(const float* x, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats v = Load(x + i, extent);
    Store(y + i, v * Sigmoid(v * (All(kGeluLinear) + All(kGeluCubic) * v * v)), extent);
  });
}

void RowGeluTanhBackward(const float* x, const float* dy, float* dx, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats v = Load(x + i, extent);
    const Floats z = v * (All(kGeluLinear) + All(kGeluCubic) * v * v);
    const Floats d_z = All(kGeluLinear) + All(3 * kGeluCubic) * v * v;
    // s and s (1 - s) without the difference, which loses all digits where s is nearly 1.
    const Floats e = Exp(-Magnitude(z));
    const Floats inverse = All(1) / (All(1) + e);
    const Floats s = Select(z > All(0), inverse, e * inverse);
    Store(dx + i, Load(dy + i, extent) * (s + v * d_z * (e * inverse * inverse)), extent);
  });
}

}  // namespace
}  // namespace weft::kernels::WEFT_VECTOR_SET
