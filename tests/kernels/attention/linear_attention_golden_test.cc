// Linear attention against numbers computed elsewhere and against its own definition by
// differences.
#include <gtest/gtest.h>

#include "tests/kernels/attention/linear_attention_testing.h"

namespace weft::kernels::testing {
namespace {

struct Case {
  const char* name;
  DeviceRun (*run)();
  double tolerance;  // of results of size about one
};

class LinearAttentionGoldenTest : public ::testing::TestWithParam<Case> {
 protected:
  static Values Token(const Values& values, int64_t t) {
    return Values(values.begin() + 3 * t, values.begin() + 3 * t + 3);
  }
  static void ExpectNear(const Values& got, const Values& want, const char* what) {
    ASSERT_EQ(got.size(), want.size()) << what;
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], want[i], GetParam().tolerance) << what << " " << i;
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, LinearAttentionGoldenTest,
                         ::testing::Values(Case{"reference", [] { return DeviceRun::Reference(); },
                                                1e-9},
                                           Case{"cpu", [] { return DeviceRun::Cpu(); }, 2e-6}),
                         [](const auto& instance) { return std::string(instance.param.name); });

// Five tokens of one head of width three: x_id[i][a] = sin(0.37 (i + 1) (a + 1) + id).
LinearAttentionCase FiveTokens(const FeatureMap& features) {
  LinearAttentionCase in{
      .problem = {.tokens = 5, .key_dim = 3, .value_dim = 3, .features = features}};
  for (int i = 1; i <= 5; ++i) {
    for (int a = 1; a <= 3; ++a) {
      in.q.push_back(std::sin(0.37 * i * a + 1));
      in.k.push_back(std::sin(0.37 * i * a + 2));
      in.v.push_back(std::sin(0.37 * i * a + 3));
      in.d_o.push_back(std::cos(0.21 * i + 0.5 * a));
    }
  }
  return in;
}

// In fp64, by a program of its own.
TEST_P(LinearAttentionGoldenTest, SquaredFeatures) {
  for (const int64_t chunk : {1, 2, 5, 64}) {
    LinearAttentionCase in = FiveTokens({.feature = Feature::kSquare});
    in.problem.chunk = chunk;
    const LinearAttentionResults r = RunLinearAttention(GetParam().run(), in);
    ExpectNear(Token(r.o, 0), {-0.2264265218, -0.5633272841, -0.8239843412}, "o_0");
    ExpectNear(Token(r.o, 4), {-0.8425384629, -0.4476561197, 0.3550015131}, "o_4");
    ExpectNear(Token(r.d_q, 0), {0, 0, 0}, "d_q_0");
    ExpectNear(Token(r.d_q, 4), {0.0748777082, 0.0543968650, 0.1246566524}, "d_q_4");
    ExpectNear(Token(r.d_k, 0), {0.4832438717, 0.4641292871, 0.0203443203}, "d_k_0");
    ExpectNear(Token(r.d_k, 4), {0.0312089377, 0.3195772795, -0.0384986644}, "d_k_4");
    ExpectNear(Token(r.d_v, 0), {1.3204182051, 0.3827591248, -0.6486127384}, "d_v_0");
    ExpectNear(Token(r.d_v, 4), {0.0032809717, -0.0727472449, -0.1309643988}, "d_v_4");
    ExpectNear(Token(r.s, 0), {-0.7235439452, -0.2870677955, -0.1083417168}, "R, row 0");
    ExpectNear(Token(r.s, 3), {1.1735121526, 2.2827153086, 2.3769740480}, "z");
  }
}

TEST_P(LinearAttentionGoldenTest, SquaredFeaturesAfterTwoTokens) {
  LinearAttentionCase in = FiveTokens({.feature = Feature::kSquare});
  in.problem.tokens = 2;
  for (Values* values : {&in.q, &in.k, &in.v, &in.d_o}) values->resize(6);
  const LinearAttentionResults r = RunLinearAttention(GetParam().run(), in);
  ExpectNear(Values(r.s.begin(), r.s.begin() + 9),
             {-0.1961590131, -0.4225713452, -0.5341433310, -0.0966825607, -0.1933227850,
              -0.2222143872, -0.4376631099, -0.7562123712, -0.6794329333},
             "R");
}

// o_0, o_4, d_q_4, d_k_0, d_k_4 and d_v_1 with the rows of FeatureMatrix(2021, 3, kOrthogonal, 5,
// 3) and no guard: by the definition, without levels, gradients by differences.
struct Exponential {
  bool causal;
  FeatureMap features;
  Values o_0, o_4, d_q_4, d_k_0, d_k_4, d_v_1;
};

TEST_P(LinearAttentionGoldenTest, ExponentialFeatures) {
  const double scale = std::pow(3.0, -0.25);
  const Exponential cases[] = {
      {.causal = true,
       .features = {.feature = Feature::kExponential, .rows = 5, .scale = scale},
       .o_0 = {-0.226426521774, -0.5633272841, -0.823984341212},
       .o_4 = {-0.829786307968, -0.34834125607, 0.332454048621},
       .d_q_4 = {0.0512319418735, 0.0420084769293, -0.00822340959072},
       .d_k_0 = {-0.0827097214228, -0.194431244713, 0.115376578641},
       .d_k_4 = {-0.0192521937483, 0.111776136792, 0.0368400600079},
       .d_v_1 = {0.387753012056, -0.0569874665942, -0.487775425914}},
      {.causal = true,
       .features = {.feature = Feature::kExponential,
                    .rows = 5,
                    .both_signs = true,
                    .scale = scale,
                    .floor = 1e-2},
       .o_0 = {-0.226426521774, -0.5633272841, -0.823984341212},
       .o_4 = {-0.778853034884, -0.418984419455, 0.18203490496},
       .d_q_4 = {0.115565368425, 0.133273206983, -0.0956745911317},
       .d_k_0 = {0.0160771071372, -0.0638060798339, -0.0649340606377},
       .d_k_4 = {-0.0317596388661, 0.0916078016768, 0.0442529673772},
       .d_v_1 = {0.480684275344, -0.108893425336, -0.671810217703}},
      {.causal = false,
       .features = {.feature = Feature::kExponential, .rows = 5, .scale = scale, .floor = 1e-2},
       .o_0 = {-0.714086881534, -0.335554406047, 0.0832616957426},
       .o_4 = {-0.828725463869, -0.347738820843, 0.33042701332},
       .d_q_4 = {0.0496603976255, 0.0403585328387, -0.00793067851016},
       .d_k_0 = {-0.0865060559865, -0.221280497177, 0.202317298067},
       .d_k_4 = {-0.0655592219817, 0.209867476391, 0.0950355976646},
       .d_v_1 = {0.278254766812, -0.0254109279774, -0.322855141361}}};
  for (const Exponential& want : cases) {
    LinearAttentionCase in = FiveTokens(want.features);
    in.problem.causal = want.causal;
    in.problem.guard_epsilon = 0.0;
    in.projection = FeatureMatrix(2021, 3, FeatureRows::kOrthogonal, 5, 3);
    SCOPED_TRACE(in.Name());
    const LinearAttentionResults r = RunLinearAttention(GetParam().run(), in);
    ExpectNear(Token(r.o, 0), want.o_0, "o_0");
    ExpectNear(Token(r.o, 4), want.o_4, "o_4");
    ExpectNear(Token(r.d_q, 4), want.d_q_4, "d_q_4");
    ExpectNear(Token(r.d_k, 0), want.d_k_0, "d_k_0");
    ExpectNear(Token(r.d_k, 4), want.d_k_4, "d_k_4");
    ExpectNear(Token(r.d_v, 1), want.d_v_1, "d_v_1");
  }
}

// ---- Differences, on the reference

// The weighted sum of outputs and final state. The state counts in units of `levels`, one a head,
// and not in its own, which move with the keys.
double Loss(const LinearAttentionCase& in, const LinearAttentionResults& r, const Values& levels) {
  double loss = 0.0;
  for (size_t i = 0; i < r.o.size(); ++i) loss += r.o[i] * in.d_o[i];
  const size_t size = LinearAttentionStateSize(in.problem);
  for (size_t i = 0; i < in.d_s.size(); ++i) {
    const double level = r.s[(i / size + 1) * size - 1];
    loss += r.s[i] * std::exp(level - levels[i / size]) * in.d_s[i];
  }
  return loss;
}

void ExpectGradients(LinearAttentionCase in) {
  // Away from the kinks of relu and magnitude, and from features that vanish together.
  for (Values* values : {&in.q, &in.k}) {
    for (double& value : *values) value += value < 0.0 ? -0.25 : 0.25;
  }
  const LinearAttentionResults r = RunLinearAttention(DeviceRun::Reference(), in);
  const int64_t size = LinearAttentionStateSize(in.problem);
  Values levels;
  for (int64_t i = size - 1; i < static_cast<int64_t>(r.s.size()); i += size) {
    levels.push_back(r.s[i]);
  }
  const auto check = [&](Values LinearAttentionCase::*input, const Values& gradient,
                         const char* what) {
    constexpr double step = 1e-3;  // five points: errs by h^4 f'''''/30 + 1.5 eps |f| / h
    LinearAttentionCase changed = in;
    Values& x = changed.*input;
    for (size_t i = 0; i < x.size(); ++i) {
      // The level of a state is the unit of its other elements.
      if (input == &LinearAttentionCase::s0 && static_cast<int64_t>(i) % size == size - 1) continue;
      const double saved = x[i];
      const auto at = [&](double steps) {
        x[i] = saved + steps * step;
        return Loss(in, RunLinearAttention(DeviceRun::Reference(), changed), levels);
      };
      const double slope = (at(-2) - 8 * at(-1) + 8 * at(1) - at(2)) / (12 * step);
      x[i] = saved;
      EXPECT_NEAR(gradient[i], slope, 1e-8 * (1.0 + std::abs(slope)))
          << what << " " << i << " " << in.Name();
    }
  };
  check(&LinearAttentionCase::q, r.d_q, "d_q");
  check(&LinearAttentionCase::k, r.d_k, "d_k");
  check(&LinearAttentionCase::v, r.d_v, "d_v");
  check(&LinearAttentionCase::s0, r.d_s0, "d_s0");
}

TEST(LinearAttentionDifferencesTest, GradientsOfEveryFeatureMap) {
  for (const FeatureMap& features : AllFeatureMaps(/*rows=*/6)) {
    for (const bool causal : {true, false}) {
      const LinearAttentionProblem problem{.batch = 2,
                                           .tokens = 5,
                                           .heads = 2,
                                           .key_dim = 3,
                                           .value_dim = 2,
                                           .features = features,
                                           .causal = causal};
      const LinearAttentionCase in = RandomLinearAttention(problem, /*with_states=*/causal);
      ExpectGradients(in);
      ExpectGradients(Padded(in, 2));
    }
  }
}

TEST(LinearAttentionDifferencesTest, GradientsWithoutStates) {
  for (const FeatureMap& features : AllFeatureMaps(/*rows=*/6)) {
    ExpectGradients(RandomLinearAttention(
        {.tokens = 4, .key_dim = 3, .value_dim = 2, .features = features}, /*with_states=*/false));
  }
}

TEST(LinearAttentionDifferencesTest, GradientsUnderTheGuardThatLiftsSmallSums) {
  LinearAttentionProblem problem{.tokens = 4,
                                 .key_dim = 3,
                                 .value_dim = 2,
                                 .features = {.feature = Feature::kSquare},
                                 .guard = DenominatorGuard::kLiftSmall};
  for (const double epsilon : {1e-6, 1e6}) {  // no sum is small; every sum is
    problem.guard_epsilon = epsilon;
    ExpectGradients(RandomLinearAttention(problem, /*with_states=*/true));
  }
}

}  // namespace
}  // namespace weft::kernels::testing
