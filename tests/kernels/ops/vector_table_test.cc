// The inner loops of every instruction set that this machine has.
#include "kernels/device/cpu/vector/vector_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "absl/base/casts.h"
#include "kernels/device/cpu/instruction_set.h"
#include "tests/kernels/ops/op_case.h"

namespace weft::kernels {
namespace {

using Row = std::vector<float>;

class VectorTableTest : public ::testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override {
    if (GetParam() > BestInstructionSet()) {
      GTEST_SKIP() << "this machine has no " << NameOf(GetParam());
    }
  }
  [[nodiscard]] const VectorTable& vector() const { return VectorTableFor(GetParam()); }
};

// How far `got` is from `exact` in units of the last place of fp32 there, denormals included.
double UlpsFrom(double exact, float got) {
  if (std::isinf(got) || std::abs(exact) > static_cast<double>(std::numeric_limits<float>::max())) {
    return static_cast<float>(exact) == got ? 0 : HUGE_VAL;
  }
  const int exponent = std::max(-126, exact == 0 ? -126 : std::ilogb(exact));
  return std::abs(static_cast<double>(got) - exact) / std::ldexp(1.0, exponent - 23);
}

TEST_P(VectorTableTest, ExpIsWithinItsStatedError) {
  // Steps of 2^-10 and of a tenth of a per cent of them, over everything that is not 0 or infinity.
  Row x;
  for (double value = -104; value < 89; value += 0x1.0083p-10) {
    x.push_back(static_cast<float>(value));
  }
  Row y(x.size());
  vector().exp(x.data(), y.data(), static_cast<int64_t>(x.size()));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, UlpsFrom(std::exp(static_cast<double>(x[i])), y[i]));
  }
  EXPECT_LE(worst, GetParam() == InstructionSet::kSse2 ? 2 : 1);
  RecordProperty("worst_ulp", std::to_string(worst));
}

TEST_P(VectorTableTest, ExpTreatsTheEndsRightly) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Row x = {0, -infinity, infinity, -200, 200, std::nanf(""), -0.0F, 88.7F, -103.9F};
  Row y(x.size());
  vector().exp(x.data(), y.data(), static_cast<int64_t>(x.size()));
  EXPECT_EQ(y[0], 1);
  EXPECT_EQ(y[1], 0);
  EXPECT_EQ(y[2], infinity);
  EXPECT_EQ(y[3], 0);
  EXPECT_EQ(y[4], infinity);
  EXPECT_TRUE(std::isnan(y[5]));
  EXPECT_EQ(y[6], 1);
  EXPECT_TRUE(std::isfinite(y[7]));
  EXPECT_GT(y[8], 0);
}

// From 2^-12 to 16 in steps of about 2^-9 of the value, both signs.
Row Magnitudes() {
  Row x;
  for (double value = 0x1p-12; value < 16; value *= 1 + 0x1.0083p-9) {
    x.push_back(static_cast<float>(value));
    x.push_back(static_cast<float>(-value));
  }
  return x;
}

TEST_P(VectorTableTest, TanhAndGeluAreWithinTheirStatedErrors) {
  const Row x = Magnitudes();
  const auto n = static_cast<int64_t>(x.size());
  Row tanh(x.size()), gelu(x.size()), slope(x.size());
  vector().tanh(1, x.data(), tanh.data(), n);
  vector().gelu(x.data(), gelu.data(), n);
  double worst_tanh = 0, worst_gelu = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = x[i];
    worst_tanh = std::max(worst_tanh, UlpsFrom(std::tanh(exact), tanh[i]));
    const double want = exact * std::erfc(-exact / std::sqrt(2.0)) / 2;
    worst_gelu = std::max(worst_gelu, UlpsFrom(want, gelu[i]));
  }
  EXPECT_LE(worst_tanh, 3);
  EXPECT_LE(worst_gelu, 8);
}

TEST_P(VectorTableTest, TanhAndGeluTreatTheEndsRightly) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Row x = {0, -0.0F, 100, -100, std::nanf(""), infinity, -infinity};
  Row y(x.size());
  vector().tanh(1, x.data(), y.data(), 7);
  EXPECT_EQ(y[0], 0);
  EXPECT_EQ(y[1], 0);
  EXPECT_EQ(y[2], 1);
  EXPECT_EQ(y[3], -1);
  EXPECT_TRUE(std::isnan(y[4]));
  EXPECT_EQ(y[5], 1);
  EXPECT_EQ(y[6], -1);
  for (const auto gelu : {vector().gelu, vector().gelu_tanh}) {
    gelu(x.data(), y.data(), 5);
    EXPECT_EQ(y[0], 0);
    EXPECT_EQ(y[2], 100);
    EXPECT_EQ(y[3], 0);
    EXPECT_TRUE(std::isnan(y[4]));
  }
}

// Every length up to several vectors, so that every remainder occurs. A guard element behind the
// row shows stores that go too far.
class Lengths {
 public:
  static void Each(const std::function<void(int64_t)>& body) {
    for (int64_t n = 0; n <= 70; ++n) body(n);
  }
};

constexpr float kGuard = 12345;

Row Sample(uint32_t seed, int64_t n) {
  const Array values = Normal(seed, {n});
  Row row(values.values.begin(), values.values.end());
  row.push_back(kGuard);
  return row;
}

TEST_P(VectorTableTest, ReductionsTakeEveryElementOnce) {
  Lengths::Each([&](int64_t n) {
    const Row a = Sample(1, n), b = Sample(2, n), c = Sample(3, n);
    double sum = 0, dot = 0, dot3 = 0, squares = 0;
    float largest = -std::numeric_limits<float>::infinity();
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      const double x = a[i], y = b[i], z = c[i];
      sum += x;
      dot += x * y;
      dot3 += x * y * z;
      squares += x * x;
      largest = std::max(largest, a[i]);
    }
    // n terms of order one in fp32: each addition errs by 2^-24 of a partial sum of at most 2 n.
    const double bound = static_cast<double>(n * n) * 0x1p-22;
    EXPECT_NEAR(vector().sum(a.data(), n), sum, bound);
    EXPECT_NEAR(vector().dot(a.data(), b.data(), n), dot, bound);
    EXPECT_NEAR(vector().dot3(a.data(), b.data(), c.data(), n), dot3, 4 * bound);
    EXPECT_NEAR(vector().sum_of_squares(a.data(), n), squares, bound * 0x1p-29);
    EXPECT_EQ(vector().max(a.data(), n), largest);
  });
}

TEST_P(VectorTableTest, ElementwiseLoopsStayInsideTheirRow) {
  const VectorTable& v = vector();
  struct Loop {
    const char* name;
    std::function<void(const Row&, const Row&, Row&, int64_t)> run;
    std::function<double(double, double, double)> formula;  // of a, b and what y held
  };
  const auto s = [](double x) { return 1 / (1 + std::exp(-x)); };
  const auto slope = [s](double x) { return s(x) * (1 + x * (1 - s(x))); };
  const auto bell = [](double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; };
  const auto z = [](double x) { return 1.5957691216057308 * (x + 0.044715 * x * x * x); };
  using A = const Row&;
  const std::vector<Loop> loops = {
      {"add", [&](A a, A b, Row& y, int64_t n) { v.add(a.data(), b.data(), y.data(), n); },
       [](double a, double b, double) { return a + b; }},
      {"multiply",
       [&](A a, A b, Row& y, int64_t n) { v.multiply(a.data(), b.data(), y.data(), n); },
       [](double a, double b, double) { return a * b; }},
      {"scale", [&](A a, A, Row& y, int64_t n) { v.scale(3, a.data(), y.data(), n); },
       [](double a, double, double) { return 3 * a; }},
      {"axpy", [&](A a, A, Row& y, int64_t n) { v.axpy(3, a.data(), y.data(), n); },
       [](double a, double, double y) { return y + 3 * a; }},
      {"multiply_add",
       [&](A a, A b, Row& y, int64_t n) { v.multiply_add(a.data(), b.data(), y.data(), n); },
       [](double a, double b, double y) { return y + a * b; }},
      {"scaled_multiply",
       [&](A a, A b, Row& y, int64_t n) { v.scaled_multiply(3, a.data(), b.data(), y.data(), n); },
       [](double a, double b, double) { return 3 * a * b; }},
      {"scaled_multiply_add",
       [&](A a, A b, Row& y, int64_t n) {
         v.scaled_multiply_add(3, a.data(), b.data(), y.data(), n);
       },
       [](double a, double b, double y) { return y + 3 * a * b; }},
      {"combine",
       [&](A a, A b, Row& y, int64_t n) { v.combine(3, a.data(), -2, b.data(), y.data(), n); },
       [](double a, double b, double) { return 3 * a - 2 * b; }},
      {"exp", [&](A a, A, Row& y, int64_t n) { v.exp(a.data(), y.data(), n); },
       [](double a, double, double) { return std::exp(a); }},
      {"silu", [&](A a, A, Row& y, int64_t n) { v.silu(a.data(), y.data(), n); },
       [=](double a, double, double) { return a * s(a); }},
      {"silu_backward",
       [&](A a, A b, Row& y, int64_t n) { v.silu_backward(a.data(), b.data(), y.data(), n); },
       [=](double a, double b, double) { return b * slope(a); }},
      {"sigmoid", [&](A a, A, Row& y, int64_t n) { v.sigmoid(a.data(), 2, y.data(), n); },
       [=](double a, double, double) { return 2 * s(a); }},
      {"sigmoid_backward",
       [&](A a, A b, Row& y, int64_t n) { v.sigmoid_backward(a.data(), 2, b.data(), y.data(), n); },
       [](double a, double b, double) { return b * a * (1 - a / 2); }},
      {"tanh", [&](A a, A, Row& y, int64_t n) { v.tanh(2, a.data(), y.data(), n); },
       [](double a, double, double) { return 2 * std::tanh(a / 2); }},
      {"tanh_backward",
       [&](A a, A b, Row& y, int64_t n) { v.tanh_backward(a.data(), 2, b.data(), y.data(), n); },
       [](double a, double b, double) { return b * (1 - a * a / 4); }},
      {"gelu", [&](A a, A, Row& y, int64_t n) { v.gelu(a.data(), y.data(), n); },
       [=](double a, double, double) { return a * bell(a); }},
      {"gelu_backward",
       [&](A a, A b, Row& y, int64_t n) { v.gelu_backward(a.data(), b.data(), y.data(), n); },
       [=](double a, double b, double) {
         return b * (bell(a) + a * std::exp(-a * a / 2) * 0.3989422804014327);
       }},
      {"gelu_tanh", [&](A a, A, Row& y, int64_t n) { v.gelu_tanh(a.data(), y.data(), n); },
       [=](double a, double, double) { return a * s(z(a)); }},
      {"gelu_tanh_backward",
       [&](A a, A b, Row& y, int64_t n) { v.gelu_tanh_backward(a.data(), b.data(), y.data(), n); },
       [=](double a, double b, double) {
         const double d_z = 1.5957691216057308 * (1 + 3 * 0.044715 * a * a);
         return b * (s(z(a)) + a * s(z(a)) * (1 - s(z(a))) * d_z);
       }},
      {"swiglu", [&](A a, A b, Row& y, int64_t n) { v.swiglu(a.data(), b.data(), y.data(), n); },
       [=](double a, double b, double) { return a * s(a) * b; }},
      {"shifted_exp",
       [&](A a, A, Row& y, int64_t n) { v.shifted_exp(a.data(), 1, 0.5F, y.data(), n); },
       [](double a, double, double) { return std::exp(a - 1) + 0.5; }},
      {"square", [&](A a, A, Row& y, int64_t n) { v.square(a.data(), 0.5F, y.data(), n); },
       [](double a, double, double) { return a * a + 0.5; }},
      {"relu", [&](A a, A, Row& y, int64_t n) { v.relu(a.data(), 0.5F, y.data(), n); },
       [](double a, double, double) { return std::max(a, 0.0) + 0.5; }},
      {"relu_backward",
       [&](A a, A b, Row& y, int64_t n) { v.relu_backward(a.data(), b.data(), y.data(), n); },
       [](double a, double b, double) { return a > 0 ? b : 0; }},
      {"elu1", [&](A a, A, Row& y, int64_t n) { v.elu1(a.data(), 0.5F, y.data(), n); },
       [](double a, double, double) { return (a > 0 ? a + 1 : std::exp(a)) + 0.5; }},
      {"elu1_backward",
       [&](A a, A b, Row& y, int64_t n) { v.elu1_backward(a.data(), b.data(), y.data(), n); },
       [](double a, double b, double) { return a > 0 ? b : b * std::exp(a); }},
      {"magnitude", [&](A a, A, Row& y, int64_t n) { v.magnitude(a.data(), 0.5F, y.data(), n); },
       [](double a, double, double) { return std::abs(a) + 0.5; }},
      {"magnitude_backward",
       [&](A a, A b, Row& y, int64_t n) { v.magnitude_backward(a.data(), b.data(), y.data(), n); },
       [](double a, double b, double) { return a > 0 ? b : -b; }},
  };
  for (const Loop& loop : loops) {
    Lengths::Each([&](int64_t n) {
      const Row a = Sample(1, n), b = Sample(2, n), before = Sample(3, n);
      Row y = before;
      loop.run(a, b, y, n);
      for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
        const double exact = loop.formula(a[i], b[i], before[i]);
        // A few operations of 2^-24 each on values of order ten.
        ASSERT_NEAR(y[i], exact, 1e-5) << loop.name << " " << n << " " << i;
      }
      ASSERT_EQ(y.back(), kGuard) << loop.name << " " << n;
    });
  }
}

TEST_P(VectorTableTest, LayerNormOfEveryLength) {
  for (int64_t n = 1; n <= 70; ++n) {
    const auto width = static_cast<size_t>(n);
    const Row x = Sample(1, n), w = Sample(2, n), b = Sample(3, n);
    Row y = Sample(4, n);
    float mean = 0, rstd = 0;
    vector().layer_norm(x.data(), w.data(), b.data(), 0.25F, y.data(), &mean, &rstd, n);
    double exact_mean = 0, variance = 0;
    for (size_t i = 0; i < width; ++i) exact_mean += x[i] / static_cast<double>(n);
    for (size_t i = 0; i < width; ++i) {
      variance += (x[i] - exact_mean) * (x[i] - exact_mean) / static_cast<double>(n);
    }
    const double exact_rstd = 1 / std::sqrt(variance + 0.25);
    EXPECT_NEAR(mean, exact_mean, 1e-6);
    EXPECT_NEAR(rstd, exact_rstd, 1e-6 * exact_rstd);
    for (size_t i = 0; i < width; ++i) {
      EXPECT_NEAR(y[i], w[i] * (x[i] - exact_mean) * exact_rstd + b[i], 1e-5);
    }
    EXPECT_EQ(y.back(), kGuard) << n;
  }
}

TEST_P(VectorTableTest, KinksHaveSlopeZeroAndNothingIsLost) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Row x = {0, -0.0F, std::nanf(""), infinity, -infinity}, slopes(5, 1);
  Row y(5);
  vector().relu_backward(x.data(), slopes.data(), y.data(), 5);
  EXPECT_EQ(y, (Row{0, 0, 0, 1, 0}));
  vector().magnitude_backward(x.data(), slopes.data(), y.data(), 5);
  EXPECT_EQ(y, (Row{0, 0, 0, 1, -1}));
  for (const auto feature : {vector().relu, vector().elu1, vector().magnitude, vector().square}) {
    feature(x.data(), 0, y.data(), 5);
    EXPECT_TRUE(std::isnan(y[2]));
    EXPECT_EQ(y[3], infinity);
  }
  vector().elu1(x.data(), 0, y.data(), 5);
  EXPECT_EQ(y[4], 0);
}

TEST_P(VectorTableTest, ExpSumGivesARowOfASoftmax) {
  Lengths::Each([&](int64_t n) {
    const Row x = Sample(1, n);
    Row y = Sample(2, n);
    const float sum = vector().exp_sum(0.5F, x.data(), 0.25F, y.data(), n);
    double exact = 0;
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      const double e = std::exp(0.5 * static_cast<double>(x[i]) - 0.25);
      EXPECT_NEAR(y[i], e, 4e-6);
      exact += e;
    }
    EXPECT_NEAR(sum, exact, 1e-6 * static_cast<double>(n + 1));
    EXPECT_EQ(y.back(), kGuard);
  });
}

TEST_P(VectorTableTest, EvenPowersAndTheirSlopes) {
  for (const int squarings : {1, 2, 3}) {
    const double p = std::exp2(squarings);
    Lengths::Each([&](int64_t n) {
      const Row x = Sample(1, n), d = Sample(2, n);
      Row y = Sample(3, n), power = x, slope = d;
      const float sum = vector().even_power(squarings, x.data(), y.data(), n);
      vector().even_power_backward(squarings, power.data(), 0.5F, slope.data(), n);
      double exact_sum = 0;
      for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
        const double value = std::pow(static_cast<double>(x[i]), p);
        const double gradient = p * std::pow(static_cast<double>(x[i]), p - 1) * (d[i] - 0.5);
        exact_sum += value;
        EXPECT_NEAR(y[i], value, 1e-6 * value);
        EXPECT_EQ(power[i], y[i]);
        EXPECT_NEAR(slope[i], gradient, 2e-6 * std::abs(gradient) + 1e-6);
      }
      EXPECT_NEAR(sum, exact_sum, 1e-6 * exact_sum * static_cast<double>(n + 1));
      for (const Row& row : {y, power, slope}) EXPECT_EQ(row.back(), kGuard);
    });
  }
}

// F(x) . F(y) = (x . y)^2, and its gradient is 2 (x . y) y.
TEST_P(VectorTableTest, ProductsOfARowWithItself) {
  for (int64_t n = 1; n <= 70; ++n) {
    const auto twice = [](Row x, size_t count) {
      x.resize(count);
      x.insert(x.end(), x.begin(), x.end());
      return x;
    };
    const auto width = static_cast<size_t>(n);
    const Row x = twice(Sample(1, n), width), y = twice(Sample(2, n), width);
    const int64_t products = n * (n + 1) / 2;
    Row of_x(static_cast<size_t>(products) + 1, kGuard), of_y = of_x, slope(width + 1, kGuard);
    Row space(width * width + 1, kGuard);
    vector().self_product(x.data(), of_x.data(), n);
    vector().self_product(y.data(), of_y.data(), n);
    vector().self_product_backward(x.data(), of_y.data(), space.data(), slope.data(), n);
    double dot = 0, square = 0;
    for (size_t i = 0; i < width; ++i) dot += double{x[i]} * double{y[i]};
    for (size_t i = 0; i + 1 < of_x.size(); ++i) square += double{of_x[i]} * double{of_y[i]};
    // Some thousand products of order one, each rounded a few times.
    EXPECT_NEAR(square, dot * dot, 1e-4 * (1 + dot * dot)) << n;
    for (size_t i = 0; i < width; ++i) {
      EXPECT_NEAR(slope[i], 2 * dot * y[i], 1e-3) << n << " " << i;
    }
    for (const Row& row : {of_x, of_y, slope, space}) EXPECT_EQ(row.back(), kGuard);
  }
}

TEST_P(VectorTableTest, MagnitudeIgnoresSignsAndShowsNonFiniteValues) {
  Lengths::Each([&](int64_t n) {
    Row x = Sample(1, n);
    if (n == 0) return;
    x[static_cast<size_t>(n / 2)] = -100;
    EXPECT_EQ(vector().max_magnitude(x.data(), n), absl::bit_cast<uint32_t>(100.0F));
    x[static_cast<size_t>(n - 1)] = -std::numeric_limits<float>::infinity();
    EXPECT_EQ(vector().max_magnitude(x.data(), n), 0x7F800000U);
  });
}

// Gradients are quantised on machines of all kinds: their integers must not differ.
TEST_P(VectorTableTest, ExactSumsAreTheSameForEveryInstructionSet) {
  Lengths::Each([&](int64_t n) {
    const Row x = Sample(1, n);
    const VectorTable& plain = VectorTableFor(InstructionSet::kSse2);
    std::vector<int32_t> want(static_cast<size_t>(n) + 1, 7), got = want;
    plain.quantize_add(0x1p10F, 0x1p12F, 0x1p30F, x.data(), want.data(), n);
    vector().quantize_add(0x1p10F, 0x1p12F, 0x1p30F, x.data(), got.data(), n);
    EXPECT_EQ(got, want);
    Row back(static_cast<size_t>(n)), other(static_cast<size_t>(n));
    plain.dequantize(want.data(), 0x1p-22, back.data(), n);
    vector().dequantize(got.data(), 0x1p-22, other.data(), n);
    EXPECT_EQ(back, other);
    EXPECT_EQ(plain.sum_of_squares(x.data(), n), vector().sum_of_squares(x.data(), n));
  });
}

INSTANTIATE_TEST_SUITE_P(Sets, VectorTableTest, ::testing::ValuesIn(kInstructionSets),
                         [](const ::testing::TestParamInfo<InstructionSet>& tested) {
                           return std::string(NameOf(tested.param));
                         });

}  // namespace
}  // namespace weft::kernels
