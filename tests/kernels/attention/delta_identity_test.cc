// What the delta rule promises, on every device: overwriting, orthogonal storage, reflection,
// linearity, and that a sequence may be cut anywhere.
#include <gtest/gtest.h>

#include "tests/kernels/attention/delta_testing.h"

namespace weft::kernels::testing {
namespace {

struct Case {
  const char* name;
  DeviceRun (*run)();
  double tolerance;  // for results of size about one: some roundings
};

class DeltaIdentityTest : public ::testing::TestWithParam<Case> {
 protected:
  [[nodiscard]] DeltaResults Run(const DeltaInputs& in) const {
    return RunDelta(GetParam().run(), in);
  }
  void ExpectSame(const Values& got, const Values& want, const char* what = "") const {
    EXPECT_LE(MaxDifference(got, want), GetParam().tolerance * (1.0 + MaxMagnitude(want))) << what;
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, DeltaIdentityTest,
                         ::testing::Values(Case{"reference", [] { return DeviceRun::Reference(); },
                                                1e-13},
                                           Case{"cpu", [] { return DeviceRun::Cpu(); }, 4e-6}),
                         [](const auto& instance) { return std::string(instance.param.name); });

DeltaInputs OneHead(int64_t tokens, int64_t dim, bool with_states, uint32_t seed = 5) {
  return RandomDelta({.tokens = tokens, .key_dim = dim, .value_dim = dim}, with_states, seed);
}

TEST_P(DeltaIdentityTest, ZeroBetaWritesNothingButHasAGradient) {
  DeltaInputs in = OneHead(70, 8, /*with_states=*/true);
  std::fill(in.beta.begin(), in.beta.end(), 0.0);
  const DeltaResults r = Run(in);
  EXPECT_EQ(MaxDifference(r.s, in.s0), 0.0);
  for (int64_t t = 0; t < 70; ++t) {  // every query reads the initial state
    for (int64_t j = 0; j < 8; ++j) {
      double want = 0.0;
      for (int64_t i = 0; i < 8; ++i) want += in.s0[i * 8 + j] * in.q[t * 8 + i];
      EXPECT_NEAR(r.o[t * 8 + j], want, GetParam().tolerance);
    }
  }
  EXPECT_EQ(MaxMagnitude(r.d_v), 0.0);
  EXPECT_EQ(MaxMagnitude(r.d_k), 0.0);
  ExpectSame(r.d_beta, PlainDelta<double>::Run(in).d_beta);
  EXPECT_GT(MaxMagnitude(r.d_beta), 0.1);
}

TEST_P(DeltaIdentityTest, BetaOneStoresTheValueExactly) {
  DeltaInputs in = OneHead(67, 16, /*with_states=*/true);
  std::fill(in.beta.begin(), in.beta.end(), 1.0);
  in.q = in.k;  // asks each token for what it has just stored
  const DeltaResults r = Run(in);
  double largest = 0.0;
  for (size_t i = 0; i < r.o.size(); ++i) largest = std::max(largest, std::abs(r.o[i] - in.v[i]));
  EXPECT_LE(largest, 1e-5);  // the keys have length 1 - 1e-6 / 2 by the epsilon of their norm
}

TEST_P(DeltaIdentityTest, OrthonormalKeysStoreEachValueApart) {
  constexpr int64_t tokens = 20;
  constexpr int64_t dim = 32;
  DeltaInputs in = OneHead(2 * tokens, dim, /*with_states=*/false);
  std::fill(in.q.begin(), in.q.end(), 0.0);
  std::fill(in.k.begin(), in.k.end(), 0.0);
  for (int64_t t = 0; t < tokens; ++t) {  // write with t, then read with t
    in.k[t * dim + t] = 1.0;
    in.beta[t] = 1.0;
    in.beta[tokens + t] = 0.0;
    in.q[(tokens + t) * dim + t] = 0.5;
  }
  const DeltaResults r = Run(in);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t j = 0; j < dim; ++j) {
      EXPECT_EQ(r.o[(tokens + t) * dim + j], 0.5 * in.v[t * dim + j]);
      EXPECT_EQ(r.s[t * dim + j], in.v[t * dim + j]);
    }
  }
}

TEST_P(DeltaIdentityTest, OneKeyRemembersItsValuesWithFadingWeight) {
  constexpr int64_t tokens = 24;
  constexpr int64_t dim = 4;
  DeltaInputs in = OneHead(tokens, dim, /*with_states=*/false);
  for (const double beta : {1.0, 0.25}) {  // with 1 the last value wins and no other leaves a trace
    std::fill(in.beta.begin(), in.beta.end(), beta);
    Values want(dim, 0.0);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t i = 0; i < dim; ++i) in.k[t * dim + i] = i == 2 ? 1.0 : 0.0;
      for (int64_t j = 0; j < dim; ++j) {
        want[j] = (1 - beta) * want[j] + beta * in.v[t * dim + j];
      }
    }
    const DeltaResults r = Run(in);
    ExpectSame(Values(r.s.begin() + 2 * dim, r.s.begin() + 3 * dim), want);
  }
}

TEST_P(DeltaIdentityTest, BetaTwoReflects) {
  DeltaInputs in = OneHead(1, 4, /*with_states=*/true);
  in.k = {0, 1, 0, 0};
  in.q = {0, 1, 0, 0};
  in.beta = {2.0};
  const DeltaResults r = Run(in);
  for (int64_t j = 0; j < 4; ++j) {
    EXPECT_NEAR(r.o[j], 2 * in.v[j] - in.s0[4 + j], GetParam().tolerance);
    EXPECT_EQ(r.s[j], in.s0[j]);
  }
  // A reflection keeps the norm of the state, however many follow.
  DeltaInputs many = OneHead(300, 16, /*with_states=*/true);
  std::fill(many.v.begin(), many.v.end(), 0.0);
  std::fill(many.beta.begin(), many.beta.end(), 2.0);
  NormalizeRows(many.k, 16, /*epsilon=*/0.0);
  EXPECT_NEAR(RootMeanSquare(Run(many).s), RootMeanSquare(many.s0), 1e-5);
}

// Rows [first, last) of the tokens of a problem with one sequence.
DeltaInputs Cut(const DeltaInputs& in, int64_t first, int64_t last) {
  DeltaInputs part = in;
  part.problem.tokens = last - first;
  const auto cut = [&](Values& values, int64_t width) {
    values = Values(values.begin() + first * width, values.begin() + last * width);
  };
  const int64_t heads = in.problem.heads;
  cut(part.q, heads * in.problem.key_dim);
  cut(part.k, heads * in.problem.key_dim);
  cut(part.v, heads * in.problem.value_dim);
  cut(part.d_o, heads * in.problem.value_dim);
  cut(part.beta, heads);
  return part;
}

Values Joined(Values a, const Values& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_P(DeltaIdentityTest, ASequenceMayBeCutAnywhere) {
  const DeltaInputs in =
      RandomDelta({.tokens = 130, .heads = 2, .key_dim = 12, .value_dim = 9}, /*with_states=*/true);
  const DeltaResults whole = Run(in);
  for (const int64_t at : {1, 63, 64, 65, 129}) {
    SCOPED_TRACE(at);
    DeltaInputs left = Cut(in, 0, at);
    DeltaInputs right = Cut(in, at, in.problem.tokens);
    right.s0 = Run(left).s;
    const DeltaResults second = Run(right);
    left.d_s = second.d_s0;
    const DeltaResults first = Run(left);
    ExpectSame(second.s, whole.s, "s");
    ExpectSame(first.d_s0, whole.d_s0, "d_s0");
    ExpectSame(Joined(first.o, second.o), whole.o, "o");
    ExpectSame(Joined(first.d_q, second.d_q), whole.d_q, "d_q");
    ExpectSame(Joined(first.d_k, second.d_k), whole.d_k, "d_k");
    ExpectSame(Joined(first.d_v, second.d_v), whole.d_v, "d_v");
    ExpectSame(Joined(first.d_beta, second.d_beta), whole.d_beta, "d_beta");
  }
}

TEST_P(DeltaIdentityTest, NoTokensPassTheStateThrough) {
  const DeltaInputs in = OneHead(0, 8, /*with_states=*/true);
  const DeltaResults r = Run(in);
  EXPECT_EQ(r.s, in.s0);
  EXPECT_EQ(r.d_s0, in.d_s);
}

TEST_P(DeltaIdentityTest, SequencesAndHeadsAreIndependent) {
  const DeltaProblem problem{.batch = 2, .tokens = 66, .heads = 2, .key_dim = 6, .value_dim = 5};
  const DeltaInputs in = RandomDelta(problem, /*with_states=*/true);
  const DeltaResults whole = Run(in);
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t h = 0; h < 2; ++h) {
      const auto rows = [&](const Values& values, int64_t width) {
        Values picked;
        for (int64_t t = 0; t < problem.tokens; ++t) {
          const int64_t row = (b * problem.tokens + t) * 2 + h;
          picked.insert(picked.end(), values.begin() + row * width,
                        values.begin() + (row + 1) * width);
        }
        return picked;
      };
      const auto state = [&](const Values& values) {
        return Values(values.begin() + (b * 2 + h) * 30, values.begin() + (b * 2 + h + 1) * 30);
      };
      DeltaInputs one{.problem = {.tokens = 66, .key_dim = 6, .value_dim = 5},
                      .q = rows(in.q, 6),
                      .k = rows(in.k, 6),
                      .v = rows(in.v, 5),
                      .beta = rows(in.beta, 1),
                      .s0 = state(in.s0),
                      .d_o = rows(in.d_o, 5),
                      .d_s = state(in.d_s)};
      const DeltaResults alone = Run(one);
      EXPECT_EQ(alone.o, rows(whole.o, 5));
      EXPECT_EQ(alone.s, state(whole.s));
      EXPECT_EQ(alone.d_q, rows(whole.d_q, 6));
      EXPECT_EQ(alone.d_k, rows(whole.d_k, 6));
      EXPECT_EQ(alone.d_v, rows(whole.d_v, 5));
      EXPECT_EQ(alone.d_beta, rows(whole.d_beta, 1));
      EXPECT_EQ(alone.d_s0, state(whole.d_s0));
    }
  }
}

Values Scaled(Values values, double factor) {
  for (double& value : values) value *= factor;
  return values;
}

TEST_P(DeltaIdentityTest, ResultsAreLinearInValuesAndQueries) {
  const DeltaInputs in = OneHead(100, 8, /*with_states=*/true);
  const DeltaResults r = Run(in);
  DeltaInputs louder = in;
  louder.v = Scaled(in.v, 4.0);  // powers of two: every bit scales
  louder.s0 = Scaled(in.s0, 4.0);
  const DeltaResults loud = Run(louder);
  EXPECT_EQ(loud.o, Scaled(r.o, 4.0));
  EXPECT_EQ(loud.s, Scaled(r.s, 4.0));
  EXPECT_EQ(loud.d_q, Scaled(r.d_q, 4.0));
  EXPECT_EQ(loud.d_beta, Scaled(r.d_beta, 4.0));
  EXPECT_EQ(loud.d_v, r.d_v);
  DeltaInputs asking = in;
  asking.q = Scaled(in.q, 0.5);
  const DeltaResults half = Run(asking);
  EXPECT_EQ(half.o, Scaled(r.o, 0.5));
  EXPECT_EQ(half.s, r.s);
}

// A whole sequence acts on its initial state as S -> M S + R, and on gradients as D -> M^T D.
TEST_P(DeltaIdentityTest, ASequenceIsAnAffineMapOfItsState) {
  constexpr int64_t dim = 6;
  const DeltaInputs in = OneHead(90, dim, /*with_states=*/true);
  DeltaInputs unit = in;
  std::fill(unit.v.begin(), unit.v.end(), 0.0);
  for (int64_t i = 0; i < dim; ++i) {
    for (int64_t j = 0; j < dim; ++j) unit.s0[i * dim + j] = i == j ? 1.0 : 0.0;
  }
  const Values m = Run(unit).s;
  DeltaInputs empty = in;
  empty.s0.clear();
  std::fill(empty.d_o.begin(), empty.d_o.end(), 0.0);
  const DeltaResults without = Run(empty);
  const DeltaResults with = Run(in);
  Values s = without.s;
  Values d_s0(dim * dim, 0.0);
  for (int64_t i = 0; i < dim; ++i) {
    for (int64_t j = 0; j < dim; ++j) {
      for (int64_t l = 0; l < dim; ++l) {
        s[i * dim + j] += m[i * dim + l] * in.s0[l * dim + j];
        d_s0[i * dim + j] += m[l * dim + i] * in.d_s[l * dim + j];
      }
    }
  }
  ExpectSame(with.s, s, "s");
  ExpectSame(without.d_s0, d_s0, "d_s0");
}

}  // namespace
}  // namespace weft::kernels::testing
