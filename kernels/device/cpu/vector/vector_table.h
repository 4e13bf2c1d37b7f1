// VectorTable: the inner loops of CPU kernels, compiled once for each instruction set and chosen
// when the program starts.
//
// n counts elements; pointers need no alignment. An output may be the very same pointer as an input
// and overlaps nothing otherwise. Sums run in a fixed order that depends on n and the instruction
// set alone. Infinities and NaN pass through as the formula says.
//
// row_loops.cc is compiled three times and includes nothing beside its parts in this folder and
// this file, which includes nothing beside <cstdint>: an inline function of a library, compiled
// there for AVX-512, could be the copy that the linker keeps for everybody.
#pragma once

#include <cstdint>

namespace weft::kernels {

enum class InstructionSet : uint8_t;

struct AdamWFactors {
  float beta1, beta2;
  float one_minus_beta1, one_minus_beta2;
  float step_size;                // learning rate / (1 - beta1^t)
  float inverse_sqrt_correction;  // 1 / sqrt(1 - beta2^t)
  float epsilon;
  float decay;  // 1 - learning rate * weight decay
};

// A counter of Philox without its ordinal (kernels/random/philox.h), and the key.
struct PhiloxPlace {
  uint32_t primary, third, fourth;
  uint64_t key;
};

struct VectorTable {
  // ---- Reductions
  float (*sum)(const float* x, int64_t n);
  // -infinity for n = 0; elements that are NaN may be passed over.
  float (*max)(const float* x, int64_t n);
  float (*dot)(const float* a, const float* b, int64_t n);
  float (*dot3)(const float* a, const float* b, const float* c, int64_t n);  // sum of a*b*c
  double (*sum_of_squares)(const float* x, int64_t n);                       // in fp64

  // ---- Arithmetic
  void (*add)(const float* a, const float* b, float* y, int64_t n);           // y = a + b
  void (*multiply)(const float* a, const float* b, float* y, int64_t n);      // y = a * b
  void (*scale)(float factor, const float* x, float* y, int64_t n);           // y = factor * x
  void (*axpy)(float factor, const float* x, float* y, int64_t n);            // y += factor * x
  void (*multiply_add)(const float* a, const float* b, float* y, int64_t n);  // y += a * b
  // y = factor * a * b;  y += factor * a * b
  void (*scaled_multiply)(float factor, const float* a, const float* b, float* y, int64_t n);
  void (*scaled_multiply_add)(float factor, const float* a, const float* b, float* y, int64_t n);
  // y = p * a + q * b
  void (*combine)(float p, const float* a, float q, const float* b, float* y, int64_t n);

  // ---- Exponentials. exp errs by less than 2 ulp over the whole range (1 ulp with FMA),
  // denormal results included; exp(-infinity) = 0.
  void (*exp)(const float* x, float* y, int64_t n);
  // y = exp(factor * x - shift); returns the sum of y. The row of a softmax.
  float (*exp_sum)(float factor, const float* x, float shift, float* y, int64_t n);

  // ---- Activations; s(x) = 1 / (1 + exp(-x))
  void (*silu)(const float* x, float* y, int64_t n);  // y = x * s(x)
  void (*silu_backward)(const float* x, const float* dy, float* dx, int64_t n);
  void (*sigmoid)(const float* x, float factor, float* y, int64_t n);  // y = factor * s(x)
  // From the result: dx = dy * y * (1 - y / factor).
  void (*sigmoid_backward)(const float* y, float factor, const float* dy, float* dx, int64_t n);
  void (*swiglu)(const float* gate, const float* up, float* y, int64_t n);  // y = silu(gate) * up
  void (*swiglu_backward)(const float* gate, const float* up, const float* dy, float* dgate,
                          float* dup, int64_t n);

  // y = factor * tanh(x / factor). From the result: dx = dy * (1 - (y / factor)^2).
  void (*tanh)(float factor, const float* x, float* y, int64_t n);
  void (*tanh_backward)(const float* y, float factor, const float* dy, float* dx, int64_t n);
  // y = x * Phi(x), Phi the standard normal distribution; errs by less than 8 ulp
  void (*gelu)(const float* x, float* y, int64_t n);
  void (*gelu_backward)(const float* x, const float* dy, float* dx, int64_t n);
  // y = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))
  void (*gelu_tanh)(const float* x, float* y, int64_t n);
  void (*gelu_tanh_backward)(const float* x, const float* dy, float* dx, int64_t n);

  // ---- Feature maps (kernels/attention/features): y = g(x) + floor, and dx = dy * g'(x), where
  // g' is 0 at a kink of relu and magnitude
  void (*shifted_exp)(const float* x, float shift, float floor, float* y, int64_t n);
  void (*square)(const float* x, float floor, float* y, int64_t n);
  void (*relu)(const float* x, float floor, float* y, int64_t n);
  void (*relu_backward)(const float* x, const float* dy, float* dx, int64_t n);
  // x + 1 above zero, exp(x) elsewhere
  void (*elu1)(const float* x, float floor, float* y, int64_t n);
  void (*elu1_backward)(const float* x, const float* dy, float* dx, int64_t n);
  void (*magnitude)(const float* x, float floor, float* y, int64_t n);
  void (*magnitude_backward)(const float* x, const float* dy, float* dx, int64_t n);

  // ---- Layer norm: y = w * (x - mean) * rstd + b, rstd = 1 / sqrt(variance + eps); n > 0
  void (*layer_norm)(const float* x, const float* w, const float* b, float eps, float* y,
                     float* mean, float* rstd, int64_t n);
  // dx is set, or added to when `add`; dw += dy * (x - mean) * rstd; db += dy. dx may be dy.
  void (*layer_norm_backward)(const float* x, const float* w, float mean, float rstd,
                              const float* dy, bool add, float* dx, float* dw, float* db,
                              int64_t n);

  // ---- Even powers: p = 2^squarings, squarings = 1, 2 or 3
  float (*even_power)(int squarings, const float* x, float* y, int64_t n);  // y = x^p; its sum
  // x becomes x^p, d becomes p * x^(p-1) * (d - shift).
  void (*even_power_backward)(int squarings, float* x, float shift, float* d, int64_t n);

  // ---- All n (n + 1) / 2 products of two entries of a row, those of different entries times
  // sqrt(2), so that the dot product of two such rows is the square of the dot product of theirs.
  // In bands: entries a and (a + distance) mod n, a = 0, 1, ..., for distance = 0, 1, ... n / 2
  // (for n / 2 itself only a < n / 2). x_twice [2n] is the row and the row again.
  void (*self_product)(const float* x_twice, float* y, int64_t n);
  // dx [n]; space is working space of n * n elements.
  void (*self_product_backward)(const float* x_twice, const float* dy, float* space, float* dx,
                                int64_t n);

  // ---- Rotary: (low, high) turned by an angle whose cosine and sine are given
  // y_low = low * cos - high * sin;  y_high = low * sin + high * cos
  void (*rotate)(const float* low, const float* high, const float* cosine, const float* sine,
                 float* y_low, float* y_high, int64_t n);

  // ---- Random words: words 4 i ... 4 i + 3 are those of ordinals[i]
  void (*philox)(const PhiloxPlace& place, const uint32_t* ordinals, uint32_t* words, int64_t n);
  // y = words >= least ? factor * x : 0
  void (*keep_from)(const uint32_t* words, uint32_t least, float factor, const float* x, float* y,
                    int64_t n);

  // ---- Integers in floating point: exact, so equal for every instruction set, while all sums stay
  // below 2^53
  // y = x brought into [0, 1] (NaN to 0) times unit, rounded, ties to even; unit <= 2^22.
  void (*to_units)(float unit, const float* x, float* y, int64_t n);
  double (*integer_dot)(const double* a, const float* b, int64_t n);
  // y[m, n] = a[m, k] * b[k, n]
  void (*integer_product)(const double* a, const double* b, double* y, int64_t m, int64_t k,
                          int64_t n);

  // ---- Edges: `picks` lists n rows of a matrix, each `width` elements, `stride` apart
  // y[e] = x . rows[picks[e]]
  void (*picked_dots)(const float* x, const float* rows, int64_t stride, const int32_t* picks,
                      float* y, int64_t width, int64_t n);
  // y += sum over e of weights[e] * rows[picks[e]]
  void (*picked_sum)(const float* weights, const float* rows, int64_t stride, const int32_t* picks,
                     float* y, int64_t width, int64_t n);
  // rows[picks[e]] += weights[e] * x, for each e
  void (*picked_add)(const float* weights, const float* x, const int32_t* picks, float* rows,
                     int64_t stride, int64_t width, int64_t n);
  // y = bit i of `bits` is set ? x : other
  void (*keep_bits)(const uint64_t* bits, float other, const float* x, float* y, int64_t n);
  void (*clip)(float add, float limit, const float* x, float* y, int64_t n);  // x + add in +-limit
  // bit i of `bits` = 2^-24 floor(words / 2^8) < x + add; the bits behind the last one become 0.
  void (*bits_below)(const uint32_t* words, float add, const float* x, uint64_t* bits, int64_t n);
  int64_t (*count_bits)(const uint64_t* bits, int64_t words);  // that are set

  // ---- Optimizer: one AdamW step with the gradient times `clip`
  void (*adamw)(const AdamWFactors& factors, float clip, const float* gradient, float* parameter,
                float* m, float* v, int64_t n);

  // ---- Exact sums (kernels/ops/fixed_point)
  // The largest bit pattern of |x|: its exponent is the largest exponent of the row, and it is at
  // least that of infinity when any element is not finite.
  uint32_t (*max_magnitude)(const float* x, int64_t n);
  // sum += first * second * x, rounded to the nearest integer, ties to even, and held within
  // +-limit < 2^31. The factors are powers of two; two of them, because their product may be out of
  // the range of a float.
  void (*quantize_add)(float first, float second, float limit, const float* x, int32_t* sum,
                       int64_t n);
  void (*dequantize)(const int32_t* sum, double scale, float* x, int64_t n);  // x = scale * sum
};

// `set` must not exceed BestInstructionSet().
const VectorTable& VectorTableFor(InstructionSet set);

}  // namespace weft::kernels
