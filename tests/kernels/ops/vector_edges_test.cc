// The inner loops of graphs for every instruction set that this machine has: random words, exact
// integers, picked rows and masks.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/device/cpu/instruction_set.h"
#include "kernels/device/cpu/vector/vector_table.h"
#include "kernels/random/philox.h"
#include "tests/kernels/ops/op_case.h"

namespace weft::kernels {
namespace {

using Row = std::vector<float>;
constexpr float kGuard = 12345;

class VectorEdgesTest : public ::testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override {
    if (GetParam() > BestInstructionSet()) {
      GTEST_SKIP() << "this machine has no " << NameOf(GetParam());
    }
  }
  [[nodiscard]] const VectorTable& vector() const { return VectorTableFor(GetParam()); }
};

Row Sample(uint32_t seed, int64_t n) {
  const Array values = Normal(seed, {n});
  return {values.values.begin(), values.values.end()};
}

TEST_P(VectorEdgesTest, WordsAreThoseOfTheGenerator) {
  for (int64_t n = 0; n <= 40; ++n) {
    std::vector<uint32_t> ordinals(n);
    for (int64_t i = 0; i < n; ++i) ordinals[i] = static_cast<uint32_t>(0xFFFFFFF0U + 7 * i);
    std::vector<uint32_t> words(4 * n + 1, 99);
    vector().philox({.primary = 5, .third = 0x80000007U, .fourth = 3, .key = 0xFEDCBA9876543210U},
                    ordinals.data(), words.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      const PhiloxWords want = Philox4x32({5, ordinals[i], 0x80000007U, 3}, 0xFEDCBA9876543210U);
      EXPECT_EQ(std::vector<uint32_t>(words.begin() + 4 * i, words.begin() + 4 * i + 4),
                std::vector<uint32_t>(want.begin(), want.end()));
    }
    EXPECT_EQ(words.back(), 99);
  }
}

TEST_P(VectorEdgesTest, AWordBelowTheBoundDropsItsElement) {
  for (int64_t n = 0; n <= 70; ++n) {
    Row x = Sample(1, n);
    std::vector<uint32_t> words(n);
    for (int64_t i = 0; i < n; ++i) words[i] = 0x80000000U + static_cast<uint32_t>(i) - 20;
    Row y(n + 1, kGuard);
    vector().keep_from(words.data(), 0x80000000U, 2, x.data(), y.data(), n);
    for (int64_t i = 0; i < n; ++i) EXPECT_EQ(y[i], i < 20 ? 0 : 2 * x[i]);
    EXPECT_EQ(y[n], kGuard);
  }
}

TEST_P(VectorEdgesTest, UnitsAreRoundedAndBroughtInside) {
  const float unit = 0x1p20F;
  const Row x = {0,          1,    0.5F,   0x1.8p-20F,    0x0.8p-20F,
                 0x2.8p-20F, 1.5F, -0.25F, std::nanf(""), std::numeric_limits<float>::infinity(),
                 0.3F};
  const Row want = {0, unit, unit / 2, 2, 0, 2, unit, 0, 0, unit, std::rint(0.3F * unit)};
  for (size_t n = 0; n <= x.size(); ++n) {
    Row y(n + 1, kGuard);
    vector().to_units(unit, x.data(), y.data(), static_cast<int64_t>(n));
    EXPECT_EQ(Row(y.begin(), y.end() - 1),
              Row(want.begin(), want.begin() + static_cast<int64_t>(n)));
    EXPECT_EQ(y[n], kGuard);
  }
}

TEST_P(VectorEdgesTest, ProductsOfIntegersAreExact) {
  for (const int64_t m : {1, 3, 4, 9}) {
    for (const int64_t k : {1, 5, 64}) {
      for (int64_t n = 1; n <= 37; n += 3) {
        std::vector<int64_t> whole_a(m * k), whole_b(k * n);
        for (int64_t i = 0; i < m * k; ++i) whole_a[i] = (i * 7919 + 13) % (1 << 20);
        for (int64_t i = 0; i < k * n; ++i) whole_b[i] = (i * 104729 + 1) % (1 << 26);
        const std::vector<double> a(whole_a.begin(), whole_a.end());
        const std::vector<double> b(whole_b.begin(), whole_b.end());
        std::vector<double> y(m * n);
        vector().integer_product(a.data(), b.data(), y.data(), m, k, n);
        for (int64_t i = 0; i < m * n; ++i) {
          int64_t want = 0;
          for (int64_t u = 0; u < k; ++u) want += whole_a[i / n * k + u] * whole_b[u * n + i % n];
          ASSERT_EQ(y[i], static_cast<double>(want)) << m << " " << k << " " << n;
        }
      }
    }
  }
}

TEST_P(VectorEdgesTest, DotsOfIntegersAreExact) {
  for (int64_t n = 0; n <= 70; ++n) {
    std::vector<double> a(n);
    Row b(n);
    uint64_t want = 0;
    for (int64_t i = 0; i < n; ++i) {
      const auto x = static_cast<uint64_t>((i * 2654435761LL) % (1LL << 26));
      const auto y = static_cast<uint64_t>((i * 7919 + 5) % (1 << 20));
      a[i] = static_cast<double>(x);
      b[i] = static_cast<float>(y);
      want += x * y;
    }
    EXPECT_EQ(vector().integer_dot(a.data(), b.data(), n), static_cast<double>(want));
  }
}

// Rows of `width` inside a wider matrix; some are picked twice.
struct Picked {
  Picked(int64_t width_, int64_t n)
      : width(width_), stride(width_ + 3), x(Sample(1, width_)), weights(Sample(2, n)) {
    rows = Sample(3, kRows * stride);
    for (int64_t e = 0; e < n; ++e) picks.push_back(static_cast<int32_t>(e * 5 % 8));
  }
  [[nodiscard]] const float* RowOf(int64_t e) const { return rows.data() + picks[e] * stride; }

  static constexpr int64_t kRows = 8;
  int64_t width, stride;
  Row x, weights, rows;
  std::vector<int32_t> picks;
};

TEST_P(VectorEdgesTest, PickedRowsEnterDotsAndSums) {
  for (int64_t width = 1; width <= 140; width += 7) {
    for (const int64_t n : {0, 1, 3, 4, 9}) {
      const Picked in(width, n);
      Row dots(n + 1, kGuard);
      vector().picked_dots(in.x.data(), in.rows.data(), in.stride, in.picks.data(), dots.data(),
                           width, n);
      EXPECT_EQ(dots[n], kGuard);
      Row sum = in.x;
      sum.push_back(kGuard);
      std::vector<double> exact(in.x.begin(), in.x.end());
      vector().picked_sum(in.weights.data(), in.rows.data(), in.stride, in.picks.data(), sum.data(),
                          width, n);
      EXPECT_EQ(sum[width], kGuard);
      for (int64_t e = 0; e < n; ++e) {
        double dot = 0;
        for (int64_t i = 0; i < width; ++i) {
          dot += static_cast<double>(in.x[i]) * static_cast<double>(in.RowOf(e)[i]);
          exact[i] += static_cast<double>(in.weights[e]) * static_cast<double>(in.RowOf(e)[i]);
        }
        EXPECT_NEAR(dots[e], dot, 1e-6 * static_cast<double>(width + 10));
      }
      for (int64_t i = 0; i < width; ++i) EXPECT_NEAR(sum[i], exact[i], 1e-5);
    }
  }
}

TEST_P(VectorEdgesTest, PickedRowsTakeWhatIsAdded) {
  for (int64_t width = 1; width <= 140; width += 7) {
    Picked in(width, 11);
    std::vector<double> exact(in.rows.begin(), in.rows.end());
    for (size_t e = 0; e < in.picks.size(); ++e) {
      for (int64_t i = 0; i < width; ++i) {
        exact[in.picks[e] * in.stride + i] +=
            static_cast<double>(in.weights[e]) * static_cast<double>(in.x[i]);
      }
    }
    vector().picked_add(in.weights.data(), in.x.data(), in.picks.data(), in.rows.data(), in.stride,
                        width, 11);
    for (size_t i = 0; i < exact.size(); ++i) EXPECT_NEAR(in.rows[i], exact[i], 2e-6);
  }
}

TEST_P(VectorEdgesTest, BitsChooseElements) {
  const std::vector<uint64_t> bits = {0x8123456789ABCDEFU, 0x00FF00FF0F0F3355U, 0x5U};
  for (int64_t n = 0; n <= 150; ++n) {
    const Row x = Sample(1, n);
    Row y(n + 1, kGuard);
    vector().keep_bits(bits.data(), -7, x.data(), y.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_EQ(y[i], (bits[i / 64] >> (i % 64) & 1) != 0 ? x[i] : -7);
    }
    EXPECT_EQ(y[n], kGuard);
  }
}

TEST_P(VectorEdgesTest, WordsBelowAProbabilityAreBits) {
  for (int64_t n = 0; n <= 150; ++n) {
    const Row x = Sample(1, n);
    std::vector<uint32_t> words(n);
    for (int64_t i = 0; i < n; ++i) words[i] = 2654435761U * static_cast<uint32_t>(i * i + 3 * n);
    std::vector<uint64_t> bits((n + 63) / 64 + 1, 99);
    vector().bits_below(words.data(), 0.25F, x.data(), bits.data(), n);
    int64_t count = 0;
    for (int64_t i = 0; i < (n + 63) / 64 * 64; ++i) {
      const bool below = i < n && static_cast<float>(words[i] >> 8) * 0x1p-24F < x[i] + 0.25F;
      EXPECT_EQ((bits[i / 64] >> (i % 64) & 1) != 0, below) << n << " " << i;
      count += below ? 1 : 0;
    }
    EXPECT_EQ(bits.back(), 99);
    EXPECT_EQ(vector().count_bits(bits.data(), (n + 63) / 64), count);
  }
}

TEST_P(VectorEdgesTest, ClipsAfterAdding) {
  for (int64_t n = 0; n <= 70; ++n) {
    const Row x = Sample(1, n);
    Row y(n + 1, kGuard);
    vector().clip(0.25F, 0.5F, x.data(), y.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_EQ(y[i], std::min(0.5F, std::max(-0.5F, x[i] + 0.25F)));
    }
    EXPECT_EQ(y[n], kGuard);
    vector().clip(0, std::numeric_limits<float>::infinity(), x.data(), y.data(), n);
    EXPECT_EQ(Row(y.begin(), y.end() - 1), x);
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, VectorEdgesTest, ::testing::ValuesIn(kInstructionSets),
                         [](const ::testing::TestParamInfo<InstructionSet>& tested) {
                           return std::string(NameOf(tested.param));
                         });

}  // namespace
}  // namespace weft::kernels
