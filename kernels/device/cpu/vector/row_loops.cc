// The loops behind VectorTable, written once over vectors of WEFT_VECTOR_LANES floats and compiled
// for each instruction set (namespace WEFT_VECTOR_SET). Includes nothing else: see vector_table.h.
//
// Everything but the table is in an anonymous namespace, so no symbol of this file can be taken for
// that of another compilation. Compiled with -fno-math-errno, which lets square roots be vectors.

#include "kernels/device/cpu/vector/vector_table.h"

namespace weft::kernels::WEFT_VECTOR_SET {
namespace {

constexpr int64_t kLanes = WEFT_VECTOR_LANES;
constexpr int64_t kAccumulators = 4;  // independent sums hide the latency of an addition
constexpr int kDoubleSums = 16;       // the same for a sum in fp64
constexpr float kInfinity = __builtin_inff();

using Floats [[gnu::vector_size(kLanes * 4)]] = float;
using Ints [[gnu::vector_size(kLanes * 4)]] = int32_t;
using Uints [[gnu::vector_size(kLanes * 4)]] = uint32_t;

// ---- Vectors in memory: whole ones, and the part at the end of a row

struct Whole {};
struct Part {
  int64_t count;  // in (0, kLanes)
};

Floats All(float value) { return Floats{} + value; }

Floats Load(const float* p, Whole /*whole*/, float /*rest*/ = 0) {
  Floats v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

// Lanes beyond the part hold `rest`.
Floats Load(const float* p, Part part, float rest = 0) {
  Floats v = All(rest);
  __builtin_memcpy(&v, p, static_cast<uint64_t>(part.count) * sizeof(float));
  return v;
}

void Store(float* p, Floats v, Whole /*whole*/) { __builtin_memcpy(p, &v, sizeof(v)); }

void Store(float* p, Floats v, Part part) {
  __builtin_memcpy(p, &v, static_cast<uint64_t>(part.count) * sizeof(float));
}

// Zero in the lanes beyond the part.
Floats Keep(Floats v, Whole /*whole*/) { return v; }

Floats Keep(Floats v, Part part) {
  for (int64_t lane = part.count; lane < kLanes; ++lane) v[lane] = 0;
  return v;
}

// Calls body(i, Whole) for every whole vector of a row and body(i, Part) for what is left.
template <typename Body>
[[gnu::always_inline]] inline void ForVectors(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, Whole{});
  if (i < n) body(i, Part{n - i});
}

// ---- Lanes

Floats Select(Ints condition, Floats yes, Floats no) {
  const Ints chosen =
      (condition & __builtin_bit_cast(Ints, yes)) | (~condition & __builtin_bit_cast(Ints, no));
  return __builtin_bit_cast(Floats, chosen);
}

Floats Larger(Floats a, Floats b) { return Select(a > b, a, b); }

float SumLanes(Floats v) {
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t lane = 0; lane < width; ++lane) v[lane] += v[lane + width];
  }
  return v[0];
}

// The sum of term(i, extent) over a row: four interleaved sums, then pairs. Terms of the lanes
// beyond a part must be zero.
template <typename Term>
[[gnu::always_inline]] inline float Sum(int64_t n, Term term) {
  Floats sums[kAccumulators] = {};
  int64_t i = 0;
  for (; i + kAccumulators * kLanes <= n; i += kAccumulators * kLanes) {
    for (int64_t k = 0; k < kAccumulators; ++k) sums[k] += term(i + k * kLanes, Whole{});
  }
  for (; i + kLanes <= n; i += kLanes) sums[0] += term(i, Whole{});
  if (i < n) sums[1] += term(i, Part{n - i});
  return SumLanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// ---- Exponential

// 2^k for k in [-126, 127].
Floats PowerOfTwo(Ints k) {
  return __builtin_bit_cast(Floats, __builtin_bit_cast(Uints, k + 127) << 23);
}

// x = k ln 2 + r with |r| <= ln(2)/2 and exp(x) = 2^k exp(r); exp(r) by its series to r^7, which
// leaves 5e-9 of relative error, a tenth of half an ulp.
Floats Exp(Floats x) {
  // Outside these bounds the result is 0 or infinity; NaN passes both comparisons unchanged.
  x = Select(x > All(89), All(89), x);
  x = Select(x < All(-104), All(-104), x);
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  const Floats big = All(0x1.8p23F);
  const Floats shifted = x * All(0x1.715476p+0F) + big;
  const Ints k =
      __builtin_bit_cast(Ints, __builtin_bit_cast(Uints, shifted) - __builtin_bit_cast(Uints, big));
  const Floats rounded = shifted - big;
  // ln 2 in two parts; the first has 9 bits, so its product with k is exact.
  Floats r = x - rounded * All(0x1.63p-1F);
  r = r - rounded * All(-0x1.bd0106p-13F);
  Floats p = All(1.0F / 5040);
  p = p * r + All(1.0F / 720);
  p = p * r + All(1.0F / 120);
  p = p * r + All(1.0F / 24);
  p = p * r + All(1.0F / 6);
  p = p * r + All(0.5F);
  p = p * r + All(1.0F);
  p = p * r + All(1.0F);
  // k reaches from -150 (denormal results) to 128 (infinity): two factors, rounded once.
  const Ints half = k >> 1;
  return p * PowerOfTwo(half) * PowerOfTwo(k - half);
}

Floats Sigmoid(Floats x) { return All(1) / (All(1) + Exp(-x)); }

// The derivative of silu where s = Sigmoid(x).
Floats SiluSlope(Floats x, Floats s) { return s * (All(1) + x * (All(1) - s)); }

// ---- The table: reductions

float RowSum(const float* x, int64_t n) {
  return Sum(n, [=](int64_t i, auto extent) { return Load(x + i, extent); });
}

float RowMax(const float* x, int64_t n) {
  Floats largest = All(-kInfinity);
  ForVectors(n, [&](int64_t i, auto extent) {
    largest = Larger(Load(x + i, extent, -kInfinity), largest);
  });
  float result = largest[0];
  for (int64_t lane = 1; lane < kLanes; ++lane)
    result = largest[lane] > result ? largest[lane] : result;
  return result;
}

float RowDot(const float* a, const float* b, int64_t n) {
  return Sum(n, [=](int64_t i, auto extent) { return Load(a + i, extent) * Load(b + i, extent); });
}

float RowDot3(const float* a, const float* b, const float* c, int64_t n) {
  return Sum(n, [=](int64_t i, auto extent) {
    return Load(a + i, extent) * Load(b + i, extent) * Load(c + i, extent);
  });
}

// Squares of floats are exact in fp64, so these bits are the same for every instruction set.
double RowSumOfSquares(const float* x, int64_t n) {
  double sums[kDoubleSums] = {};
  int64_t i = 0;
  for (; i + kDoubleSums <= n; i += kDoubleSums) {
    for (int k = 0; k < kDoubleSums; ++k) {
      const double value = static_cast<double>(x[i + k]);
      sums[k] += value * value;
    }
  }
  for (int k = 0; i + k < n; ++k) {
    const double value = static_cast<double>(x[i + k]);
    sums[k] += value * value;
  }
  for (int width = kDoubleSums / 2; width > 0; width /= 2) {
    for (int k = 0; k < width; ++k) sums[k] += sums[k + width];
  }
  return sums[0];
}

// ---- Arithmetic

void RowAdd(const float* a, const float* b, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, Load(a + i, extent) + Load(b + i, extent), extent);
  });
}

void RowMultiply(const float* a, const float* b, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, Load(a + i, extent) * Load(b + i, extent), extent);
  });
}

void RowScale(float factor, const float* x, float* y, int64_t n) {
  ForVectors(
      n, [=](int64_t i, auto extent) { Store(y + i, All(factor) * Load(x + i, extent), extent); });
}

void RowAxpy(float factor, const float* x, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, Load(y + i, extent) + All(factor) * Load(x + i, extent), extent);
  });
}

void RowMultiplyAdd(const float* a, const float* b, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, Load(y + i, extent) + Load(a + i, extent) * Load(b + i, extent), extent);
  });
}

void RowScaledMultiply(float factor, const float* a, const float* b, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, All(factor) * Load(a + i, extent) * Load(b + i, extent), extent);
  });
}

void RowScaledMultiplyAdd(float factor, const float* a, const float* b, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats product = All(factor) * Load(a + i, extent) * Load(b + i, extent);
    Store(y + i, Load(y + i, extent) + product, extent);
  });
}

void RowCombine(float p, const float* a, float q, const float* b, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, All(p) * Load(a + i, extent) + All(q) * Load(b + i, extent), extent);
  });
}

// ---- Exponentials and activations

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

void RowRotate(const float* low, const float* high, const float* cosine, const float* sine,
               float* y_low, float* y_high, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats a = Load(low + i, extent);
    const Floats b = Load(high + i, extent);
    const Floats c = Load(cosine + i, extent);
    const Floats s = Load(sine + i, extent);
    Store(y_low + i, a * c - b * s, extent);
    Store(y_high + i, a * s + b * c, extent);
  });
}

// ---- Optimizer and exact sums: plain loops that the compiler makes vectors of

void RowAdamW(const AdamWFactors& factors, float clip, const float* __restrict gradient,
              float* __restrict parameter, float* __restrict m, float* __restrict v, int64_t n) {
  const AdamWFactors f = factors;  // by value: stores below cannot change it
  for (int64_t i = 0; i < n; ++i) {
    const float g = clip * gradient[i];
    const float mean = f.beta1 * m[i] + f.one_minus_beta1 * g;
    const float square = f.beta2 * v[i] + f.one_minus_beta2 * (g * g);
    m[i] = mean;
    v[i] = square;
    const float root = __builtin_sqrtf(square) * f.inverse_sqrt_correction + f.epsilon;
    parameter[i] = f.decay * parameter[i] - f.step_size * mean / root;
  }
}

uint32_t RowMaxMagnitude(const float* x, int64_t n) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t magnitude = __builtin_bit_cast(uint32_t, x[i]) & 0x7FFFFFFFU;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

void RowQuantizeAdd(float first, float second, float limit, const float* __restrict x,
                    int32_t* __restrict sum, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = x[i] * first * second;
    // Adding and taking away 2^23 with the sign of the value rounds it to an integer, ties to even;
    // from 2^23 on every float is one.
    const float big = __builtin_copysignf(0x1p23F, scaled);
    const float rounded = (scaled + big) - big;
    float value = __builtin_fabsf(scaled) < 0x1p23F ? rounded : scaled;
    value = value > limit ? limit : value;
    value = value < -limit ? -limit : value;
    sum[i] += static_cast<int32_t>(value);
  }
}

void RowDequantize(const int32_t* __restrict sum, double scale, float* __restrict x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(static_cast<double>(sum[i]) * scale);
}

}  // namespace

extern const VectorTable kTable;
constinit const VectorTable kTable = {
    .sum = RowSum,
    .max = RowMax,
    .dot = RowDot,
    .dot3 = RowDot3,
    .sum_of_squares = RowSumOfSquares,
    .add = RowAdd,
    .multiply = RowMultiply,
    .scale = RowScale,
    .axpy = RowAxpy,
    .multiply_add = RowMultiplyAdd,
    .scaled_multiply = RowScaledMultiply,
    .scaled_multiply_add = RowScaledMultiplyAdd,
    .combine = RowCombine,
    .exp = RowExp,
    .exp_sum = RowExpSum,
    .silu = RowSilu,
    .silu_backward = RowSiluBackward,
    .sigmoid = RowSigmoid,
    .sigmoid_backward = RowSigmoidBackward,
    .swiglu = RowSwiglu,
    .swiglu_backward = RowSwigluBackward,
    .rotate = RowRotate,
    .adamw = RowAdamW,
    .max_magnitude = RowMaxMagnitude,
    .quantize_add = RowQuantizeAdd,
    .dequantize = RowDequantize,
};

}  // namespace weft::kernels::WEFT_VECTOR_SET
