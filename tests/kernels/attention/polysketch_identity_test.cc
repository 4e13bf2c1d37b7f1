// What polynomial attention promises, on every device: what its weights leave alone, what holds at
// the edges of its modes, that no token sees the future, and that a text may be cut anywhere.
#include <gtest/gtest.h>

#include "tests/kernels/attention/polysketch_testing.h"

namespace weft::kernels::testing {
namespace {

struct Case {
  const char* name;
  DeviceRun (*run)();
  double tolerance;  // for results of size about one: some roundings
};

class PolysketchIdentityTest : public ::testing::TestWithParam<Case> {
 protected:
  [[nodiscard]] PolysketchResults Run(const PolysketchData& in) const {
    return RunPolysketch(GetParam().run(), in);
  }
  void ExpectSame(const Values& got, const Values& want, const char* what = "") const {
    EXPECT_LE(MaxDifference(got, want), GetParam().tolerance * (1.0 + MaxMagnitude(want))) << what;
  }
  void ExpectSameResults(const PolysketchResults& got, const PolysketchResults& want) const {
    ForEachPolysketchResult(
        [&](const char* what, const Values& a, const Values& b) { ExpectSame(a, b, what); }, got,
        want);
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, PolysketchIdentityTest,
                         ::testing::Values(Case{"reference", [] { return DeviceRun::Reference(); },
                                                1e-12},
                                           Case{"cpu", [] { return DeviceRun::Cpu(); }, 1e-5}),
                         [](const auto& instance) { return std::string(instance.param.name); });

PolysketchProblem Problem(PolysketchWeights weights, int64_t tokens = 12, int64_t block = 4) {
  return {.weights = weights,
          .queries = tokens,
          .keys = tokens,
          .head_dim = 5,
          .sketch_dim = weights == PolysketchWeights::kExact ? 0 : 4,
          .block = block};
}

Values Row(const Values& values, int64_t row, int64_t width) {
  return {values.begin() + row * width, values.begin() + (row + 1) * width};
}

double Dot(const Values& a, const Values& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

TEST_P(PolysketchIdentityTest, BlocksOfSketchedWeightsChangeNothing) {
  PolysketchData in = RandomPolysketch(Problem(PolysketchWeights::kSketched), true);
  in.problem.block = 12;
  const PolysketchResults whole = Run(in);
  for (const int64_t block : {1, 2, 3, 5, 6, 100}) {
    SCOPED_TRACE(block);
    in.problem.block = block;
    ExpectSameResults(Run(in), whole);
  }
}

TEST_P(PolysketchIdentityTest, OneBlockOfMixedWeightsIsExact) {
  for (const int64_t block : {12, 50}) {
    PolysketchData in = RandomPolysketch(Problem(PolysketchWeights::kMixed, 12, block));
    const PolysketchResults mixed = Run(in);
    in.problem.weights = PolysketchWeights::kExact;
    in.problem.sketch_dim = 0;
    const PolysketchResults exact = Run(in);
    ExpectSame(mixed.o, exact.o, "o");
    ExpectSame(mixed.d_q, exact.d_q, "d_q");
    ExpectSame(mixed.d_k, exact.d_k, "d_k");
    ExpectSame(mixed.d_v, exact.d_v, "d_v");
    EXPECT_EQ(MaxMagnitude(mixed.d_phi_q), 0.0);
    EXPECT_EQ(MaxMagnitude(mixed.d_phi_k), 0.0);
  }
}

// With blocks of one token the diagonal is exact and all else sketched: so are sketched weights
// whose features give the same diagonal.
TEST_P(PolysketchIdentityTest, BlocksOfOneTokenAreExactOnTheDiagonalAlone) {
  PolysketchData in = RandomPolysketch(Problem(PolysketchWeights::kMixed, 9, 1));
  in.problem.degree = 2;
  in.problem.head_dim = 4;
  in.v.resize(9 * 4);
  in.d_o.resize(9 * 4);
  in.q = in.phi_q;
  in.k = in.phi_k;
  const PolysketchResults mixed = Run(in);
  in.problem.weights = PolysketchWeights::kSketched;
  const PolysketchResults sketched = Run(in);
  ExpectSame(mixed.o, sketched.o);
  ExpectSame(mixed.total, sketched.total);
  Values d_phi = mixed.d_phi_k;
  for (size_t i = 0; i < d_phi.size(); ++i) d_phi[i] += mixed.d_k[i];
  ExpectSame(d_phi, sketched.d_phi_k);
}

// Packed products equal all r^2 products: weights from the state equal those of pairs.
TEST_P(PolysketchIdentityTest, TheStateHoldsSquaresOfDotProducts) {
  PolysketchData in = RandomPolysketch(Problem(PolysketchWeights::kSketched, 12, 1));
  const PolysketchResults one_by_one = Run(in);
  in.problem.causal = false;
  const PolysketchResults whole = Run(in);
  const Values last = Row(one_by_one.o, 11, 5);  // the last token sees all keys either way
  ExpectSame(Row(whole.o, 11, 5), last);
}

TEST_P(PolysketchIdentityTest, TheFirstTokenSeesItself) {
  for (const PolysketchWeights weights : kAllWeights) {
    const PolysketchData in = RandomPolysketch(Problem(weights));
    const PolysketchResults r = Run(in);
    const bool sketched = weights == PolysketchWeights::kSketched;
    const double w = sketched ? std::pow(Dot(Row(in.phi_q, 0, 4), Row(in.phi_k, 0, 4)), 2)
                              : std::pow(Dot(Row(in.q, 0, 5), Row(in.k, 0, 5)), 4);
    for (int64_t d = 0; d < 5; ++d) {
      EXPECT_NEAR(r.o[d], in.v[d] * w / (1 + w), GetParam().tolerance);
    }
  }
}

TEST_P(PolysketchIdentityTest, EqualValuesComeBackBySharesOfTheDenominator) {
  for (const PolysketchWeights weights : kAllWeights) {
    PolysketchData in = RandomPolysketch(Problem(weights));
    for (size_t i = 0; i < in.v.size(); ++i) in.v[i] = 0.25 + 0.125 * static_cast<double>(i % 5);
    for (const double c0 : {1.0, 0.0}) {
      in.problem.c0 = c0;
      const PolysketchResults r = Run(in);
      for (size_t i = 0; i < r.o.size(); ++i) {
        const double share = 1 - c0 / r.total[i / 5];
        EXPECT_NEAR(r.o[i], in.v[i] * share, GetParam().tolerance) << in.Name();
      }
    }
  }
}

TEST_P(PolysketchIdentityTest, KeysWithoutFeaturesLeaveNothing) {
  PolysketchData in = RandomPolysketch(Problem(PolysketchWeights::kMixed));
  std::fill(in.phi_k.begin(), in.phi_k.end(), 0.0);
  const PolysketchResults r = Run(in);
  EXPECT_EQ(MaxMagnitude(r.values), 0.0);
  EXPECT_EQ(MaxMagnitude(r.mass), 0.0);
  EXPECT_EQ(MaxMagnitude(r.d_phi_k), 0.0);
}

// A query that sees nothing reads zero, and passes no gradient, even where 0 / 0 would stand.
TEST_P(PolysketchIdentityTest, AQueryWithoutWeightsReadsZero) {
  for (const PolysketchWeights weights : kAllWeights) {
    PolysketchData in = RandomPolysketch(Problem(weights));
    in.problem.c0 = 0;
    in.valid.assign(12, 0);
    const PolysketchResults r = Run(in);
    EXPECT_EQ(MaxMagnitude(r.o), 0.0);
    ForEachPolysketchResult(
        [&](const char* what, const Values& values) {
          EXPECT_EQ(MaxMagnitude(values), 0.0) << what;
        },
        r);
  }
}

TEST_P(PolysketchIdentityTest, PaddingIsAsIfItWereNotThere) {
  for (const PolysketchWeights weights :
       {PolysketchWeights::kExact, PolysketchWeights::kSketched}) {
    for (const bool causal : {true, false}) {
      PolysketchData in = RandomPolysketch(Problem(weights));
      in.problem.causal = causal;
      in.valid.assign(12, 1);
      for (const int64_t j : {9, 10, 11}) in.valid[j] = 0;
      const PolysketchResults padded = Run(in);
      PolysketchData cut = in;
      cut.valid.clear();
      cut.problem.queries = cut.problem.keys = 9;
      const auto shorten = [](Values& values) { values.resize(values.size() / 12 * 9); };
      for (Values* values : {&cut.q, &cut.k, &cut.phi_q, &cut.phi_k, &cut.v, &cut.d_o}) {
        shorten(*values);
      }
      const PolysketchResults short_text = Run(cut);
      Values o = padded.o;
      shorten(o);
      ExpectSame(o, short_text.o);
      for (const Values& d : {padded.d_k, padded.d_phi_k, padded.d_v}) {
        EXPECT_EQ(
            MaxMagnitude(Values(d.begin() + static_cast<int64_t>(d.size()) / 12 * 9, d.end())),
            0.0);
      }
    }
  }
}

// Everything of token 8 changes: no bit before it does, and a loss on earlier tokens gives it no
// gradient at all.
TEST_P(PolysketchIdentityTest, NoTokenSeesTheFuture) {
  constexpr int64_t kToken = 8;
  for (const PolysketchWeights weights : kAllWeights) {
    PolysketchData in = RandomPolysketch(Problem(weights));
    std::fill(in.d_o.begin() + kToken * 5, in.d_o.end(), 0.0);
    const PolysketchResults before = Run(in);
    const auto later = [&](const Values& values) {
      return Values(values.begin() + static_cast<int64_t>(values.size()) / 12 * kToken,
                    values.end());
    };
    for (const Values& d : {before.d_q, before.d_k, before.d_phi_q, before.d_phi_k, before.d_v}) {
      EXPECT_EQ(MaxMagnitude(later(d)), 0.0) << in.Name();
    }
    for (Values* values : {&in.q, &in.k, &in.phi_q, &in.phi_k, &in.v}) {
      const auto width = static_cast<int64_t>(values->size()) / 12;
      for (int64_t i = 0; i < width; ++i) (*values)[kToken * width + i] *= -3.5;
    }
    const PolysketchResults after = Run(in);
    for (int64_t i = 0; i < kToken * 5; ++i) EXPECT_EQ(after.o[i], before.o[i]) << in.Name();
    EXPECT_NE(Row(after.o, kToken, 5), Row(before.o, kToken, 5)) << in.Name();
  }
}

TEST_P(PolysketchIdentityTest, SignsOfQueriesAndKeysDoNotMatter) {
  for (const PolysketchWeights weights : kAllWeights) {
    const PolysketchData in = RandomPolysketch(Problem(weights));
    const PolysketchResults r = Run(in);
    for (Values PolysketchData::*side :
         {&PolysketchData::q, &PolysketchData::k, &PolysketchData::phi_q, &PolysketchData::phi_k}) {
      PolysketchData turned = in;
      for (double& value : turned.*side) value = -value;
      EXPECT_EQ(Run(turned).o, r.o) << in.Name();
    }
  }
}

TEST_P(PolysketchIdentityTest, OrderInsideEarlierBlocksDoesNotMatterToLaterOnes) {
  PolysketchData in = RandomPolysketch(Problem(PolysketchWeights::kMixed));
  const PolysketchResults r = Run(in);
  for (Values* values : {&in.q, &in.k, &in.phi_q, &in.phi_k, &in.v, &in.d_o}) {
    const auto width = static_cast<int64_t>(values->size()) / 12;
    std::swap_ranges(values->begin(), values->begin() + width, values->begin() + 3 * width);
    std::swap_ranges(values->begin() + 5 * width, values->begin() + 6 * width,
                     values->begin() + 6 * width);
  }
  const PolysketchResults mixed_up = Run(in);
  ExpectSame(Values(mixed_up.o.begin() + 8 * 5, mixed_up.o.end()),
             Values(r.o.begin() + 8 * 5, r.o.end()));
}

// Weights are homogeneous, so the gradient along a query itself follows from c0 alone.
TEST_P(PolysketchIdentityTest, EulersTheoremGivesTheGradientAlongAQuery) {
  for (const double c0 : {1.0, 0.0, 0.3}) {
    for (const PolysketchWeights weights :
         {PolysketchWeights::kExact, PolysketchWeights::kSketched}) {
      PolysketchData in = RandomPolysketch(Problem(weights));
      in.problem.c0 = c0;
      const PolysketchResults r = Run(in);
      const bool sketched = weights == PolysketchWeights::kSketched;
      const int64_t width = sketched ? 4 : 5;
      const double power = sketched ? 2 : 4;
      for (int64_t i = 0; i < 12; ++i) {
        const double along = Dot(Row(sketched ? in.phi_q : in.q, i, width),
                                 Row(sketched ? r.d_phi_q : r.d_q, i, width));
        const double delta = Dot(Row(in.d_o, i, 5), Row(r.o, i, 5));
        EXPECT_NEAR(along, power * c0 * delta / r.total[i], 4 * GetParam().tolerance) << i;
      }
    }
  }
}

TEST_P(PolysketchIdentityTest, GradientsOfValuesAddUpToSharesOfTheOutputs) {
  for (const PolysketchWeights weights : kAllWeights) {
    PolysketchData in = RandomPolysketch(Problem(weights));
    for (int64_t row = 0; row < 12; ++row) {
      PolysketchData one = in;
      std::fill(one.d_o.begin(), one.d_o.end(), 0.0);
      std::copy_n(in.d_o.begin() + row * 5, 5, one.d_o.begin() + row * 5);
      const PolysketchResults r = Run(one);
      for (int64_t d = 0; d < 5; ++d) {
        double sum = 0.0;
        for (int64_t j = 0; j < 12; ++j) sum += r.d_v[j * 5 + d];
        EXPECT_NEAR(sum, in.d_o[row * 5 + d] * (1 - 1 / r.total[row]), 4 * GetParam().tolerance);
      }
    }
  }
}

TEST_P(PolysketchIdentityTest, KappaChangesNothingButTheUnit) {
  for (const PolysketchWeights weights : kAllWeights) {
    for (const int64_t degree : {2, 4, 8}) {
      PolysketchData in = RandomPolysketch(Problem(weights), /*with_states=*/true);
      in.problem.degree = degree;
      PolysketchResults plain = Run(in);
      for (const double kappa : {0.5, 5.0}) {
        in.problem.kappa = kappa;
        for (double& total : plain.total) total *= std::pow(kappa, -static_cast<double>(degree));
        ExpectSameResults(Run(in), plain);
        for (double& total : plain.total) total *= std::pow(kappa, static_cast<double>(degree));
      }
    }
  }
}

// 64^8 is 3e14 and slopes are as large: with kappa = 64 no number on the way is above 1, and layer
// norms whose scale grew to 3000 still fit fp32.
TEST_P(PolysketchIdentityTest, KappaKeepsLargeProductsFromOverflowing) {
  PolysketchData in = RandomPolysketch({.weights = PolysketchWeights::kExact,
                                        .queries = 40,
                                        .keys = 40,
                                        .head_dim = 64,
                                        .degree = 8,
                                        .kappa = 64.0 * 3000 * 3000});
  for (Values* side : {&in.q, &in.k}) {
    for (double& value : *side) value *= 3000;
  }
  const PolysketchResults r = Run(in);
  EXPECT_GT(MaxMagnitude(r.o), 0.1);
  ForEachPolysketchResult(
      [](const char* what, const Values& values) {
        EXPECT_TRUE(std::isfinite(MaxDifference(values, Values(values.size(), 0.0)))) << what;
      },
      r);
}

// An E that no tokens could have left: the far denominator is taken for zero, and so is its
// gradient.
TEST_P(PolysketchIdentityTest, NegativeFarDenominatorsAreZero) {
  PolysketchData in = RandomPolysketch(Problem(PolysketchWeights::kMixed), /*with_states=*/true);
  for (double& value : in.mass) value *= -1000;
  in.d_mass.assign(in.d_mass.size(), 0.0);
  const PolysketchResults r = Run(in);
  for (const double total : r.total) EXPECT_GE(total, 1.0);
  EXPECT_EQ(MaxMagnitude(r.d_mass), 0.0);
  EXPECT_GT(MaxMagnitude(r.d_values), 0.0);
}

// ---- A text in pieces

// Tokens [first, last) of a problem with one sequence, as keys; `queries` of them are new.
PolysketchData Cut(const PolysketchData& in, int64_t first, int64_t last, int64_t queries) {
  PolysketchData part = in;
  const auto tokens = in.problem.keys;
  part.problem.keys = last - first;
  part.problem.queries = queries;
  const auto cut = [&](Values& values, int64_t from) {
    const auto width = static_cast<int64_t>(values.size()) / tokens;
    values = Values(values.begin() + from * width, values.begin() + last * width);
  };
  for (Values* values : {&part.k, &part.phi_k, &part.v}) cut(*values, first);
  for (Values* values : {&part.q, &part.phi_q, &part.d_o}) cut(*values, last - queries);
  return part;
}

Values Joined(Values a, const Values& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_P(PolysketchIdentityTest, ATextMayBeCutBetweenBlocks) {
  for (const PolysketchWeights weights :
       {PolysketchWeights::kSketched, PolysketchWeights::kMixed}) {
    PolysketchProblem problem = Problem(weights, 30, 4);
    problem.heads = 2;
    const PolysketchData in = RandomPolysketch(problem, /*with_states=*/true);
    const PolysketchResults whole = Run(in);
    for (const int64_t at : {4, 12, 28}) {
      SCOPED_TRACE(at);
      PolysketchData left = Cut(in, 0, at, at);
      PolysketchData right = Cut(in, at, 30, 30 - at);
      const PolysketchResults first = Run(left);
      right.values = first.values;
      right.mass = first.mass;
      const PolysketchResults second = Run(right);
      left.d_values = second.d_values;
      left.d_mass = second.d_mass;
      const PolysketchResults back = Run(left);
      ExpectSame(second.values, whole.values, "values");
      ExpectSame(second.mass, whole.mass, "mass");
      ExpectSame(back.d_values, whole.d_values, "d_values");
      ExpectSame(back.d_mass, whole.d_mass, "d_mass");
      ExpectSame(Joined(first.o, second.o), whole.o, "o");
      ExpectSame(Joined(back.d_q, second.d_q), whole.d_q, "d_q");
      ExpectSame(Joined(back.d_k, second.d_k), whole.d_k, "d_k");
      ExpectSame(Joined(back.d_phi_q, second.d_phi_q), whole.d_phi_q, "d_phi_q");
      ExpectSame(Joined(back.d_phi_k, second.d_phi_k), whole.d_phi_k, "d_phi_k");
      ExpectSame(Joined(back.d_v, second.d_v), whole.d_v, "d_v");
    }
  }
}

// As a text is decoded: one query at a time, with the keys of the unfinished block and the state
// of the blocks before it.
TEST_P(PolysketchIdentityTest, TokenByTokenEqualsAllAtOnce) {
  for (const PolysketchWeights weights : kAllWeights) {
    PolysketchProblem problem = Problem(weights, 15, 4);
    problem.heads = 2;
    const PolysketchData in = RandomPolysketch(problem);
    const PolysketchResults whole = Run(in);
    Values o;
    Values values, mass;
    int64_t begin = 0;  // of the keys that are not in the state
    for (int64_t t = 0; t < 15; ++t) {
      PolysketchData step = Cut(in, begin, t + 1, 1);
      step.values = values;
      step.mass = mass;
      const PolysketchResults r = Run(step);
      o = Joined(o, r.o);
      values = r.values;
      mass = r.mass;
      const bool folded = weights == PolysketchWeights::kSketched ||
                          (weights == PolysketchWeights::kMixed && t + 1 - begin == 4);
      if (folded) begin = t + 1;
    }
    ExpectSame(o, whole.o, in.Name().c_str());
    ExpectSame(values, whole.values);
    ExpectSame(mass, whole.mass);
  }
}

TEST_P(PolysketchIdentityTest, TokensCanBeUndone) {
  for (const int64_t tokens : {1, 30, 700}) {
    PolysketchProblem problem = Problem(PolysketchWeights::kSketched, tokens, 64);
    problem.heads = 2;
    PolysketchData in = RandomPolysketch(problem, /*with_states=*/true);
    DeviceRun run = GetParam().run();
    const PolysketchOnDevice on(run, in);
    const PolysketchResults r = Run(in);
    PolysketchState state{.values = run.Upload(r.values, on.initial.values.shape()),
                          .mass = run.Upload(r.mass, on.initial.mass.shape())};
    PolysketchInputs inputs{.q = {},
                            .k = {},
                            .phi_q = {},
                            .phi_k = on.inputs.phi_k,
                            .v = on.inputs.v,
                            .valid = on.inputs.valid};
    const absl::Status undone = PolysketchUndo(run.stream(), problem, inputs, state);
    ASSERT_TRUE(undone.ok()) << undone;
    // Rounded where the state was large.
    EXPECT_LE(MaxDifference(run.Download(state.values), in.values),
              GetParam().tolerance * MaxMagnitude(r.values));
    EXPECT_LE(MaxDifference(run.Download(state.mass), in.mass),
              GetParam().tolerance * MaxMagnitude(r.mass));
    EXPECT_GT(MaxDifference(r.mass, in.mass), 1e-3);
  }
}

TEST_P(PolysketchIdentityTest, OnlyAStateThatHoldsAllKeysCanBeUndone) {
  DeviceRun run = GetParam().run();
  const PolysketchData in =
      RandomPolysketch(Problem(PolysketchWeights::kMixed), /*with_states=*/true);
  const PolysketchOnDevice on(run, in);
  PolysketchState state = on.initial;
  EXPECT_EQ(PolysketchUndo(run.stream(), in.problem, on.inputs, state).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_P(PolysketchIdentityTest, AStateMayGrowInPlace) {
  DeviceRun run = GetParam().run();
  const PolysketchData in =
      RandomPolysketch(Problem(PolysketchWeights::kSketched), /*with_states=*/true);
  const PolysketchOnDevice on(run, in);
  PolysketchState state = on.initial;
  Tensor o = run.New(on.d_o.shape());
  PolysketchSaved unsaved;
  const absl::Status status =
      PolysketchForward(run.stream(), in.problem, on.inputs, state, o, state, unsaved);
  EXPECT_TRUE(status.ok()) << status;
  const PolysketchResults want = Run(in);
  EXPECT_EQ(run.Download(o), want.o);
  EXPECT_EQ(run.Download(state.values), want.values);
  EXPECT_EQ(run.Download(state.mass), want.mass);
}

}  // namespace
}  // namespace weft::kernels::testing
