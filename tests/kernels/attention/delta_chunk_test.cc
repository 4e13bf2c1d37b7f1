// What lies inside a chunk of the delta rule: the triangular systems against recorded numbers and
// against the other way to compute the same (W, U and an explicit inverse, Yang et al. 2024).
#include <gtest/gtest.h>

#include "kernels/attention/delta/cpu/chunk_solve.h"
#include "tests/kernels/attention/delta_testing.h"

namespace weft::kernels::testing {
namespace {

constexpr double kTolerance = 4e-6;  // some fp32 roundings of numbers up to 6

// A small dense matrix.
struct Matrix {
  Matrix(int64_t n_rows, int64_t n_columns, Values v = {})
      : rows(n_rows), columns(n_columns), values(std::move(v)) {
    values.resize(rows * columns);
  }
  double& at(int64_t i, int64_t j) { return values[i * columns + j]; }
  [[nodiscard]] double at(int64_t i, int64_t j) const { return values[i * columns + j]; }

  int64_t rows, columns;
  Values values;
};

Matrix Transposed(const Matrix& a) {
  Matrix t(a.columns, a.rows);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.columns; ++j) t.at(j, i) = a.at(i, j);
  }
  return t;
}

Matrix operator*(const Matrix& a, const Matrix& b) {
  Matrix product(a.rows, b.columns);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < b.columns; ++j) {
      for (int64_t l = 0; l < a.columns; ++l) product.at(i, j) += a.at(i, l) * b.at(l, j);
    }
  }
  return product;
}

Matrix Sum(Matrix a, const Matrix& b, double factor = 1.0) {
  for (size_t i = 0; i < a.values.size(); ++i) a.values[i] += factor * b.values[i];
  return a;
}

// The lower triangle, with its diagonal or without.
Matrix Lower(Matrix a, bool diagonal) {
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = i + (diagonal ? 1 : 0); j < a.columns; ++j) a.at(i, j) = 0.0;
  }
  return a;
}

Matrix RowsTimes(Matrix a, const Values& factors) {
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.columns; ++j) a.at(i, j) *= factors[i];
  }
  return a;
}

void ExpectNear(const Matrix& got, const Matrix& want, const char* what) {
  for (int64_t i = 0; i < want.rows; ++i) {
    for (int64_t j = 0; j < want.columns; ++j) {
      EXPECT_NEAR(got.at(i, j), want.at(i, j), kTolerance) << what << " " << i << " " << j;
    }
  }
}

Matrix Unit(int64_t rows) {
  Matrix unit(rows, rows);
  for (int64_t i = 0; i < rows; ++i) unit.at(i, i) = 1.0;
  return unit;
}

// The chunk's systems for keys [C, Dk].
class Chunk {
 public:
  Chunk(const Matrix& k, const Values& beta) : beta_(beta.begin(), beta.end()), rows_(k.rows) {
    const Matrix products = k * Transposed(k);
    g_.assign(products.values.begin(), products.values.end());
  }

  struct Pair {
    Matrix first, second;
  };
  [[nodiscard]] Pair Errors(const Matrix& x) const { return Solve(SolveErrors, x); }  // E, N
  [[nodiscard]] Pair Gradients(const Matrix& d_n) const {                             // Y, -dX
    return Solve(SolveErrorGradients, d_n);
  }
  // (I + diag(beta) G)^-1: N of unit vectors is this times diag(beta).
  [[nodiscard]] Matrix Inverse() const {
    Matrix t = Errors(Unit(rows_)).second;
    for (int64_t i = 0; i < rows_; ++i) {
      for (int64_t j = 0; j < rows_; ++j) t.at(i, j) /= beta_[j];
    }
    return t;
  }

 private:
  template <typename Solver>
  [[nodiscard]] Pair Solve(Solver solver, const Matrix& right) const {
    DeviceRun::Cpu(1);  // settles the instruction set that the matrix library is to use
    const ChunkSystem system{VectorTableFor(TestInstructionSet().value_or(BestInstructionSet())),
                             g_.data(),
                             rows_,
                             beta_.data(),
                             rows_,
                             right.columns};
    std::vector<float> first(right.values.begin(), right.values.end());
    std::vector<float> second(first.size());
    solver(system, first.data(), second.data());
    return {Matrix(rows_, right.columns, Values(first.begin(), first.end())),
            Matrix(rows_, right.columns, Values(second.begin(), second.end()))};
  }

  std::vector<float> g_;
  std::vector<float> beta_;
  int64_t rows_;
};

// Four tokens, two channels, exact decimals: those of delta_golden_test.
const Values kBeta = {.5, 1, .25, 1};
const Matrix kQ(4, 2, {1, 0, 0, 1, .6, .8, .8, -.6});
const Matrix kK(4, 2, {1, 0, .6, .8, 0, 1, 1, 0});
const Matrix kV(4, 2, {1, 2, 3, 4, -1, 1, 2, -2});
const Matrix kS0(2, 2, {1, 0, 0, -1});
const Matrix kDo(4, 2, {1, -1, 0, 2, 1, 1, -1, .5});
const Matrix kDs(2, 2, {.5, 0, 1, -1});

Matrix GradientOfN() {
  const Matrix p = Lower(kQ * Transposed(kK), /*diagonal=*/true);
  return Sum(Transposed(p) * kDo, kK * kDs);
}

TEST(DeltaChunkTest, FourTokensHaveTheRecordedInverse) {
  ExpectNear(Chunk(kK, kBeta).Inverse(),
             Matrix(4, 4, {1, 0, 0, 0, -.6, 1, 0, 0, .12, -.2, 1, 0, -.64, -.6, 0, 1}), "T");
}

TEST(DeltaChunkTest, FourTokensHaveTheRecordedErrorsAndWrites) {
  const auto [e, n] = Chunk(kK, kBeta).Errors(Sum(kV, kK * kS0, -1.0));
  ExpectNear(e, Matrix(4, 2, {0, 2, 2.4, 4.2, -2.92, -1.36, -.44, -5.52}), "E");
  ExpectNear(n, Matrix(4, 2, {0, 1, 2.4, 4.2, -.73, -.34, -.44, -5.52}), "N");
}

TEST(DeltaChunkTest, FourTokensHaveTheRecordedGradients) {
  const auto [y, minus_dx] = Chunk(kK, kBeta).Gradients(GradientOfN());
  ExpectNear(y, Matrix(4, 2, {.52, -1.396, 1.8, 1.66, 2.4, -.5, -.3, .4}), "Y");
  // dX is the gradient of the values.
  ExpectNear(minus_dx, Matrix(4, 2, {-.26, .698, -1.8, -1.66, -.6, .125, .3, -.4}), "-dX");
}

// The gradient of beta is y_i . e_i.
TEST(DeltaChunkTest, GradientsOfBetaAreProductsOfErrors) {
  const Chunk chunk(kK, kBeta);
  const Matrix e = chunk.Errors(Sum(kV, kK * kS0, -1.0)).first;
  const Matrix y = chunk.Gradients(GradientOfN()).first;
  const Values want = {-2.792, 11.292, -6.328, -2.076};
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(y.at(i, 0) * e.at(i, 0) + y.at(i, 1) * e.at(i, 1), want[i], 10 * kTolerance);
  }
}

// With W = T diag(beta) K, U = T diag(beta) V and N = U - W S, the gradient of the inverse is
// dU (diag(beta) V)^T + dW (diag(beta) K)^T, and that of diag(beta) G follows from it: the same as
// -Y N^T below the diagonal.
TEST(DeltaChunkTest, TheWayThroughWAndUGivesTheSameGradient) {
  constexpr int64_t kTokens = 12;
  const DeltaInputs in = RandomDelta({.tokens = kTokens, .key_dim = 5, .value_dim = 5}, true);
  const Matrix k(kTokens, 5, in.k), v(kTokens, 5, in.v), s(5, 5, in.s0), d_n(kTokens, 5, in.d_o);
  const Chunk chunk(k, in.beta);
  const Matrix t = chunk.Inverse();
  const Matrix w = t * RowsTimes(k, in.beta), u = t * RowsTimes(v, in.beta);
  const Matrix n = chunk.Errors(Sum(v, k * s, -1.0)).second;
  ExpectNear(Sum(u, w * s, -1.0), n, "N");

  const Matrix d_w = Sum(Matrix(kTokens, 5), d_n * Transposed(s), -1.0);
  const Matrix d_t =
      Lower(Sum(d_n * Transposed(RowsTimes(v, in.beta)), d_w * Transposed(RowsTimes(k, in.beta))),
            /*diagonal=*/false);
  const Matrix through_inverse = Lower(Transposed(t) * d_t * Transposed(t), /*diagonal=*/false);
  const Matrix y = chunk.Gradients(d_n).first;
  ExpectNear(Lower(y * Transposed(n), /*diagonal=*/false), through_inverse, "dLambda");
}

// One key for all tokens and beta 1: every token takes the value before it away.
TEST(DeltaChunkTest, EqualKeysWriteDifferencesOfValues) {
  constexpr int64_t kTokens = 20;
  Matrix k(kTokens, 3), v(kTokens, 2);
  NumberStream numbers(4);
  v.values = numbers.Symmetric(kTokens * 2);
  for (int64_t i = 0; i < kTokens; ++i) k.at(i, 1) = 1.0;
  const Chunk chunk(k, Values(kTokens, 1.0));
  const Matrix n = chunk.Errors(v).second;
  const Matrix t = chunk.Inverse();
  for (int64_t i = 0; i < kTokens; ++i) {
    for (int64_t c = 0; c < 2; ++c) {
      EXPECT_NEAR(n.at(i, c), v.at(i, c) - (i > 0 ? v.at(i - 1, c) : 0.0), kTolerance);
    }
    for (int64_t j = 0; j < kTokens; ++j) {
      EXPECT_EQ(t.at(i, j), i == j ? 1.0 : (j == i - 1 ? -1.0 : 0.0)) << i << " " << j;
    }
  }
}

// No part of the solution grows beyond its beta, where condition numbers are 82 and 6600.
TEST(DeltaChunkTest, EqualKeysAreSolvedWithoutLoss) {
  constexpr int64_t kTokens = 64;
  Matrix k(kTokens, 1, Values(kTokens, 1.0));
  for (const double beta : {1.0, 2.0}) {
    const Matrix t = Chunk(k, Values(kTokens, beta)).Inverse();
    for (int64_t i = 0; i < kTokens; ++i) {
      for (int64_t j = 0; j < i; ++j) {
        const double want = -beta * std::pow(1.0 - beta, static_cast<double>(i - j - 1));
        EXPECT_EQ(t.at(i, j), want) << beta << " " << i << " " << j;
      }
    }
  }
}

}  // namespace
}  // namespace weft::kernels::testing
