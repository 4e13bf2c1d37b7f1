// Every op by the straightforward formula, for the tests: in fp32 it says how wrong plain
// arithmetic is, which bounds how wrong a kernel may be.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace weft::kernels::plain {

using Row = std::vector<float>;

inline float Sigmoid(float x) { return 1 / (1 + std::exp(-x)); }
inline float SiluSlope(float x) { return Sigmoid(x) * (1 + x * (1 - Sigmoid(x))); }

// GELU, exact or in its tanh form, and its derivative.
float Gelu(bool exact, float x);
float GeluSlope(bool exact, float x);

// c[m,n] = a * b + beta * c, with strides for rows and columns of a and b.
struct Strided {
  const Row& values;
  int64_t row, column;
  [[nodiscard]] float at(int64_t i, int64_t j) const {
    return values[static_cast<size_t>(i * row + j * column)];
  }
};
void MatMul(const Strided& a, const Strided& b, int64_t m, int64_t n, int64_t k, float beta,
            Row& c);

// sums[c] += a[r,c].
void AddRows(const Row& a, Row& sums);

void RmsNormForward(const Row& x, const Row& w, float eps, Row& y, Row& rstd);
void RmsNormBackward(const Row& x, const Row& w, const Row& rstd, const Row& dy, bool accumulate,
                     Row& dx, Row& dw);
void LayerNormForward(const Row& x, const Row& w, const Row& b, float eps, Row& y, Row& mean,
                      Row& rstd);
void LayerNormBackward(const Row& x, const Row& w, const Row& mean, const Row& rstd, const Row& dy,
                       bool accumulate, Row& dx, Row& dw, Row& db);
void L2NormForward(const Row& x, int64_t width, float eps, float scale, Row& y, Row& inverse_norm);
void L2NormBackward(const Row& y, const Row& inverse_norm, float scale, const Row& dy, Row& dx);

struct ConvShape {
  int64_t batch, tokens, channels, taps;
};
// history is empty when absent.
void ShortConvForward(const ConvShape& shape, const Row& x, const Row& w, const Row& history,
                      Row& y);
void ShortConvBackward(const ConvShape& shape, const Row& x, const Row& w, const Row& history,
                       const Row& dy, Row& dx, Row& d_history, Row& dw);

struct RotaryShape {
  int64_t batch, tokens, heads, width;
};
void Rotary(const RotaryShape& shape, const Row& x, double base, int64_t first_position,
            double sign, Row& y);

// bias is empty when absent.
struct CrossEntropyResults {
  Row& losses;
  Row& right;
};
struct CrossEntropySlopes {
  Row& dh;
  Row& dw;
  Row& dbias;
};
void CrossEntropy(const Row& h, const Row& w, const Row& bias, const Row& targets, int64_t channels,
                  float scale, CrossEntropyResults results, CrossEntropySlopes* slopes);

void AdamW(float learning_rate, float beta1, float beta2, float epsilon, float weight_decay,
           int step, const Row& gradient, float clip, Row& parameter, Row& m, Row& v);

}  // namespace weft::kernels::plain
