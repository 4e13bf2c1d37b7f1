// What linear attention promises, on every device: averages, homogeneity, causality, and that a
// sequence may be cut anywhere.
#include <gtest/gtest.h>

#include "tests/kernels/attention/linear_attention_testing.h"

namespace weft::kernels::testing {
namespace {

struct Case {
  const char* name;
  DeviceRun (*run)();
  double tolerance;  // for results of size about one: some roundings
};

class LinearAttentionIdentityTest : public ::testing::TestWithParam<Case> {
 protected:
  [[nodiscard]] LinearAttentionResults Run(const LinearAttentionCase& in) const {
    return RunLinearAttention(GetParam().run(), in);
  }
  void ExpectSame(const Values& got, const Values& want, const char* what) const {
    EXPECT_LE(MaxDifference(got, want), GetParam().tolerance * (1.0 + MaxMagnitude(want))) << what;
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, LinearAttentionIdentityTest,
                         ::testing::Values(Case{"reference", [] { return DeviceRun::Reference(); },
                                                1e-12},
                                           Case{"cpu", [] { return DeviceRun::Cpu(); }, 4e-6}),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST_P(LinearAttentionIdentityTest, OutputsAreAveragesOfTheValuesSeen) {
  for (const FeatureMap& features : AllFeatureMaps(12)) {
    for (const bool causal : {true, false}) {
      LinearAttentionCase in = RandomLinearAttention({.tokens = 90,
                                                      .heads = 2,
                                                      .key_dim = 8,
                                                      .value_dim = 6,
                                                      .features = features,
                                                      .causal = causal,
                                                      .chunk = 16},
                                                     /*with_states=*/false);
      std::fill(in.v.begin(), in.v.end(), 0.75);
      // Query 0 may have nothing but features that are zero where those of its key are not.
      const Values o = Run(in).o;
      for (size_t i = 12; i < o.size(); ++i) EXPECT_NEAR(o[i], 0.75, GetParam().tolerance) << i;
    }
  }
}

TEST_P(LinearAttentionIdentityTest, TheFirstTokenSeesItselfAlone) {
  for (const FeatureMap& features : AllFeatureMaps(12)) {
    const LinearAttentionCase in = RandomLinearAttention(
        {.tokens = 20, .key_dim = 8, .value_dim = 6, .features = features, .chunk = 16},
        /*with_states=*/false);
    const LinearAttentionResults r = Run(in);
    ExpectSame(Values(r.o.begin(), r.o.begin() + 6), Values(in.v.begin(), in.v.begin() + 6), "o");
    EXPECT_LE(MaxMagnitude(Values(r.d_q.begin(), r.d_q.begin() + 8)), GetParam().tolerance * 10.0)
        << in.Name();
  }
}

// A query's features may be multiplied by anything, so a homogeneous g leaves its gradient no part
// along the query: sum over c of q_c d_q_c = 0.
TEST_P(LinearAttentionIdentityTest, QueriesHaveNoGradientAlongThemselves) {
  for (const Feature feature : {Feature::kSquare, Feature::kRelu, Feature::kMagnitude}) {
    const LinearAttentionCase in = RandomLinearAttention({.tokens = 100,
                                                          .heads = 3,
                                                          .key_dim = 8,
                                                          .value_dim = 8,
                                                          .features = {.feature = feature},
                                                          .chunk = 16},
                                                         /*with_states=*/true);
    const LinearAttentionResults r = Run(in);
    for (size_t row = 0; row < in.q.size(); row += 8) {
      double along = 0.0;
      double size = 0.0;
      for (size_t c = row; c < row + 8; ++c) {
        along += in.q[c] * r.d_q[c];
        size += std::abs(in.q[c] * r.d_q[c]);
      }
      EXPECT_LE(std::abs(along), GetParam().tolerance * (0.1 + size)) << row;
    }
  }
}

TEST_P(LinearAttentionIdentityTest, WeightsOfAllKeysMayBeMultiplied) {
  LinearAttentionCase in = RandomLinearAttention({.tokens = 70,
                                                  .key_dim = 8,
                                                  .value_dim = 8,
                                                  .features = {.feature = Feature::kRelu},
                                                  .guard_epsilon = 0.0,
                                                  .chunk = 16},
                                                 /*with_states=*/false);
  const LinearAttentionResults r = Run(in);
  for (double& k : in.k) k *= 4.0;  // a power of two: every bit scales
  const LinearAttentionResults scaled = Run(in);
  EXPECT_EQ(scaled.o, r.o);
  EXPECT_EQ(scaled.d_q, r.d_q);
  for (size_t i = 0; i < r.d_k.size(); ++i) EXPECT_EQ(4.0 * scaled.d_k[i], r.d_k[i]);
}

TEST_P(LinearAttentionIdentityTest, ALaterTokenChangesNoEarlierBit) {
  for (const FeatureMap& features : AllFeatureMaps(12)) {
    for (const int64_t heads : {2, 8}) {  // in segments and in turn
      const LinearAttentionCase in = RandomLinearAttention({.tokens = 130,
                                                            .heads = heads,
                                                            .key_dim = 6,
                                                            .value_dim = 5,
                                                            .features = features,
                                                            .chunk = 16},
                                                           /*with_states=*/true);
      const Values before = Run(in).o;
      const int64_t key = heads * 6;
      const int64_t value = heads * 5;
      for (const int64_t t : {1, 15, 16, 70, 129}) {
        LinearAttentionCase changed = in;
        for (int64_t i = 0; i < key; ++i) changed.q[t * key + i] *= -0.75;
        // What a level shared by all keys and a floor would tell everybody.
        for (int64_t i = 0; i < key; ++i) changed.k[t * key + i] *= 8.0;
        for (int64_t i = 0; i < value; ++i) changed.v[t * value + i] += 3.0;
        const Values after = Run(changed).o;
        EXPECT_TRUE(std::equal(before.begin(), before.begin() + t * value, after.begin()))
            << t << " " << in.Name();
        EXPECT_FALSE(
            std::equal(before.begin() + t * value, before.end(), after.begin() + t * value))
            << t << " " << in.Name();
      }
    }
  }
}

TEST_P(LinearAttentionIdentityTest, GradientsDoNotReachPastTheirToken) {
  LinearAttentionCase in = RandomLinearAttention({.tokens = 60,
                                                  .heads = 2,
                                                  .key_dim = 6,
                                                  .value_dim = 5,
                                                  .features = AllFeatureMaps(12)[7],
                                                  .chunk = 16},
                                                 /*with_states=*/false);
  std::fill(in.d_o.begin() + 20 * 10, in.d_o.end(), 0.0);  // a loss of the first 20 tokens
  const LinearAttentionResults r = Run(in);
  EXPECT_EQ(MaxMagnitude(Values(r.d_q.begin() + 20 * 12, r.d_q.end())), 0.0);
  EXPECT_EQ(MaxMagnitude(Values(r.d_k.begin() + 20 * 12, r.d_k.end())), 0.0);
  EXPECT_EQ(MaxMagnitude(Values(r.d_v.begin() + 20 * 10, r.d_v.end())), 0.0);
}

TEST_P(LinearAttentionIdentityTest, PaddingIsNotSeenAndTakesNoGradient) {
  for (const FeatureMap& features : AllFeatureMaps(12)) {
    for (const bool causal : {true, false}) {
      const LinearAttentionCase in = Padded(RandomLinearAttention({.tokens = 40,
                                                                   .key_dim = 6,
                                                                   .value_dim = 5,
                                                                   .features = features,
                                                                   .causal = causal,
                                                                   .chunk = 16},
                                                                  /*with_states=*/false),
                                            10);
      LinearAttentionCase changed = in;
      for (const int64_t t : {2, 35}) {
        for (int64_t i = 0; i < 6; ++i) changed.k[t * 6 + i] = 50.0;
        for (int64_t i = 0; i < 5; ++i) changed.v[t * 5 + i] = -100.0;
      }
      const LinearAttentionResults r = Run(in);
      EXPECT_EQ(Run(changed).o, r.o) << in.Name();
      for (const int64_t t : {2, 30, 39}) {
        EXPECT_EQ(MaxMagnitude(Values(r.d_k.begin() + t * 6, r.d_k.begin() + t * 6 + 6)), 0.0);
        EXPECT_EQ(MaxMagnitude(Values(r.d_v.begin() + t * 5, r.d_v.begin() + t * 5 + 5)), 0.0);
      }
    }
  }
}

TEST_P(LinearAttentionIdentityTest, QueriesThatSeeNothingGiveZero) {
  for (const FeatureMap& features : AllFeatureMaps(12)) {
    for (const bool causal : {true, false}) {
      LinearAttentionCase in = RandomLinearAttention({.tokens = 20,
                                                      .key_dim = 6,
                                                      .value_dim = 5,
                                                      .features = features,
                                                      .causal = causal,
                                                      .guard_epsilon = 0.0,
                                                      .chunk = 16},
                                                     /*with_states=*/false);
      in.valid.assign(20, 0);
      const LinearAttentionResults r = Run(in);
      for (const Values* values : {&r.o, &r.s, &r.d_q, &r.d_k, &r.d_v}) {
        EXPECT_EQ(MaxMagnitude(*values), 0.0) << in.Name();
      }
    }
  }
}

// The elements of a state of exponential features are measured by its level, so one that has none
// has no gradient; others pass theirs through tokens that nobody sees.
TEST_P(LinearAttentionIdentityTest, PaddingPassesTheGradientOfTheState) {
  for (const FeatureMap& features : AllFeatureMaps(12)) {
    LinearAttentionCase in = RandomLinearAttention(
        {.tokens = 40, .heads = 2, .key_dim = 6, .value_dim = 5, .features = features, .chunk = 16},
        /*with_states=*/true);
    std::fill(in.d_o.begin(), in.d_o.end(), 0.0);
    in.valid.assign(40, 0);
    EXPECT_EQ(Run(in).d_s0, in.d_s) << in.Name();
    in.s0.clear();
    const Values d_s0 = Run(in).d_s0;
    if (in.HasLevels()) {
      EXPECT_EQ(MaxMagnitude(d_s0), 0.0) << in.Name();
    } else {
      EXPECT_EQ(d_s0, in.d_s) << in.Name();
    }
  }
}

// Rows [first, last) of the tokens of a problem with one sequence.
LinearAttentionCase Cut(const LinearAttentionCase& in, int64_t first, int64_t last) {
  LinearAttentionCase part = in;
  part.problem.tokens = last - first;
  const auto cut = [&](Values& values, int64_t width) {
    values = Values(values.begin() + first * width, values.begin() + last * width);
  };
  cut(part.q, in.problem.heads * in.problem.key_dim);
  cut(part.k, in.problem.heads * in.problem.key_dim);
  cut(part.v, in.problem.heads * in.problem.value_dim);
  cut(part.d_o, in.problem.heads * in.problem.value_dim);
  return part;
}

Values Joined(Values a, const Values& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_P(LinearAttentionIdentityTest, ASequenceMayBeCutAnywhere) {
  for (const FeatureMap& features : AllFeatureMaps(12)) {
    const LinearAttentionCase in = RandomLinearAttention(
        {.tokens = 70, .heads = 2, .key_dim = 6, .value_dim = 9, .features = features, .chunk = 16},
        /*with_states=*/true);
    const LinearAttentionResults whole = Run(in);
    for (const int64_t at : {1, 16, 40, 69}) {
      SCOPED_TRACE(absl::StrCat(at, " ", in.Name()));
      LinearAttentionCase left = Cut(in, 0, at);
      LinearAttentionCase right = Cut(in, at, in.problem.tokens);
      right.s0 = Run(left).s;
      const LinearAttentionResults second = Run(right);
      left.d_s = second.d_s0;
      const LinearAttentionResults first = Run(left);
      ExpectSame(second.s, whole.s, "s");
      ExpectSame(first.d_s0, whole.d_s0, "d_s0");
      ExpectSame(Joined(first.o, second.o), whole.o, "o");
      ExpectSame(Joined(first.d_q, second.d_q), whole.d_q, "d_q");
      ExpectSame(Joined(first.d_k, second.d_k), whole.d_k, "d_k");
      ExpectSame(Joined(first.d_v, second.d_v), whole.d_v, "d_v");
    }
  }
}

TEST_P(LinearAttentionIdentityTest, NoTokensPassTheStateThrough) {
  const LinearAttentionCase in = RandomLinearAttention(
      {.tokens = 0, .heads = 2, .key_dim = 4, .value_dim = 3, .features = AllFeatureMaps(6)[6]},
      /*with_states=*/true);
  const LinearAttentionResults r = Run(in);
  EXPECT_EQ(r.s, in.s0);
  EXPECT_EQ(r.d_s0, in.d_s);
}

TEST_P(LinearAttentionIdentityTest, TokensCanBeUndone) {
  for (const FeatureMap& features : AllFeatureMaps(12)) {
    if (features.feature == Feature::kExponential) continue;
    for (const int64_t heads : {2, 8}) {
      const LinearAttentionCase in = RandomLinearAttention({.tokens = 200,
                                                            .heads = heads,
                                                            .key_dim = 6,
                                                            .value_dim = 5,
                                                            .features = features,
                                                            .chunk = 16},
                                                           /*with_states=*/true);
      const LinearAttentionResults r = Run(in);
      DeviceRun run = GetParam().run();
      LinearAttentionInputs inputs{.q = {},
                                   .k = run.Upload(in.k, in.KeyShape()),
                                   .v = run.Upload(in.v, in.ValueShape()),
                                   .projection = {},
                                   .valid = {}};
      if (!in.projection.empty()) inputs.projection = run.Upload(in.projection, {12, 6});
      Tensor state = run.Upload(r.s, in.StateShape());
      const absl::Status undone = LinearAttentionUndo(run.stream(), in.problem, inputs, state);
      ASSERT_TRUE(undone.ok()) << undone;
      // Rounded where the state was large.
      EXPECT_LE(MaxDifference(run.Download(state), in.s0), GetParam().tolerance * MaxMagnitude(r.s))
          << in.Name();
      EXPECT_GT(MaxDifference(r.s, in.s0), 1.0);
    }
  }
}

// With many rows, exponential features give what softmax attention with scale 1/sqrt(D) gives.
TEST_P(LinearAttentionIdentityTest, RandomFeaturesApproachSoftmax) {
  constexpr int64_t dim = 4;
  constexpr int64_t tokens = 12;
  double errors[2] = {};
  for (const int64_t rows : {64, 4096}) {
    LinearAttentionCase in =
        RandomLinearAttention({.tokens = tokens,
                               .key_dim = dim,
                               .value_dim = 3,
                               .features = {.feature = Feature::kExponential,
                                            .rows = rows,
                                            .scale = std::pow(static_cast<double>(dim), -0.25)}},
                              /*with_states=*/false);
    for (Values* values : {&in.q, &in.k}) {
      for (double& x : *values) x *= 0.5;  // the variance grows as exp(|q + k|^2 / 2)
    }
    const Values o = Run(in).o;
    double& error = errors[rows == 64 ? 0 : 1];
    for (int64_t i = 0; i < tokens; ++i) {
      Values sums(4, 0.0);
      for (int64_t j = 0; j <= i; ++j) {
        double dot = 0.0;
        for (int64_t c = 0; c < dim; ++c) dot += in.q[i * dim + c] * in.k[j * dim + c];
        const double weight = std::exp(dot / 2.0);
        for (int64_t c = 0; c < 3; ++c) sums[c] += weight * in.v[j * 3 + c];
        sums[3] += weight;
      }
      for (int64_t c = 0; c < 3; ++c) {
        error = std::max(error, std::abs(o[i * 3 + c] - sums[c] / sums[3]));
      }
    }
  }
  // The error falls with the root of the number of rows: 8 times less.
  EXPECT_LT(errors[1], 0.05);
  EXPECT_LT(errors[1], errors[0] / 3.0);
}

}  // namespace
}  // namespace weft::kernels::testing
