// The loops behind VectorTable, written once over vectors of WEFT_VECTOR_LANES floats and compiled
// for each instruction set (namespace WEFT_VECTOR_SET). Its parts lie in the headers of this
// folder; it includes nothing of any library: see vector_table.h.
//
// Everything but the table is in an anonymous namespace, so no symbol of this file can be taken for
// that of another compilation. Compiled with -fno-math-errno, which lets square roots be vectors.

#include "kernels/device/cpu/vector/activation_loops.h"
#include "kernels/device/cpu/vector/draw_loops.h"
#include "kernels/device/cpu/vector/edge_loops.h"
#include "kernels/device/cpu/vector/feature_loops.h"
#include "kernels/device/cpu/vector/lanes.h"
#include "kernels/device/cpu/vector/norm_loops.h"
#include "kernels/device/cpu/vector/polynomial_loops.h"
#include "kernels/device/cpu/vector/vector_table.h"

namespace weft::kernels::WEFT_VECTOR_SET {
namespace {

// ---- Reductions

float RowMax(const float* x, int64_t n) {
  Floats largest = All(-kInfinity);
  ForVectors(n, [&](int64_t i, auto extent) {
    largest = Larger(Load(x + i, extent, -kInfinity), largest);
  });
  return MaxLanes(largest);
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

void RowCombine(float p, const float* a, float q, const float* b, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, All(p) * Load(a + i, extent) + All(q) * Load(b + i, extent), extent);
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
    .tanh = RowTanh,
    .tanh_backward = RowTanhBackward,
    .gelu = RowGelu,
    .gelu_backward = RowGeluBackward,
    .gelu_tanh = RowGeluTanh,
    .gelu_tanh_backward = RowGeluTanhBackward,
    .shifted_exp = RowShiftedExp,
    .square = RowSquare,
    .relu = RowRelu,
    .relu_backward = RowReluBackward,
    .elu1 = RowElu1,
    .elu1_backward = RowElu1Backward,
    .magnitude = RowMagnitude,
    .magnitude_backward = RowMagnitudeBackward,
    .layer_norm = RowLayerNorm,
    .layer_norm_backward = RowLayerNormBackward,
    .even_power = RowEvenPower,
    .even_power_backward = RowEvenPowerBackward,
    .self_product = RowSelfProduct,
    .self_product_backward = RowSelfProductBackward,
    .rotate = RowRotate,
    .philox = RowPhilox,
    .keep_from = RowKeepFrom,
    .to_units = RowToUnits,
    .integer_dot = RowIntegerDot,
    .integer_product = RowsIntegerProduct,
    .picked_dots = PickedDots,
    .picked_sum = PickedSum,
    .picked_add = PickedAdd,
    .keep_bits = RowKeepBits,
    .clip = RowClip,
    .bits_below = RowBitsBelow,
    .count_bits = CountBits,
    .adamw = RowAdamW,
    .max_magnitude = RowMaxMagnitude,
    .quantize_add = RowQuantizeAdd,
    .dequantize = RowDequantize,
};

}  // namespace weft::kernels::WEFT_VECTOR_SET
