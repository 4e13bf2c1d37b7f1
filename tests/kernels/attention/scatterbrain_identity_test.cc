// What Scatterbrain promises on every device: softmax attention where all is exact, random features
// where nothing is, weights that sum to one, an error that a support only lowers, decoding.
#include <gtest/gtest.h>

#include "kernels/attention/softmax/softmax.h"
#include "tests/kernels/attention/scatterbrain_testing.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

using ::testing::HasSubstr;
using weft::testing::StatusIs;

struct Case {
  const char* name;
  DeviceRun (*run)();
  double tolerance;  // for results of size about one: some roundings
};

class ScatterbrainIdentityTest : public ::testing::TestWithParam<Case> {
 protected:
  [[nodiscard]] ScatterbrainResults Run(const ScatterbrainInputs& in) const {
    return RunScatterbrain(GetParam().run(), in);
  }
  void ExpectSame(const Values& got, const Values& want, const std::string& what = "") const {
    EXPECT_LE(MaxDifference(got, want), GetParam().tolerance * (1.0 + MaxMagnitude(want))) << what;
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, ScatterbrainIdentityTest,
                         ::testing::Values(Case{"reference", [] { return DeviceRun::Reference(); },
                                                1e-12},
                                           Case{"cpu", [] { return DeviceRun::Cpu(); }, 1e-5}),
                         [](const auto& instance) { return std::string(instance.param.name); });

ScatterbrainProblem Problem(int64_t tokens, bool causal, ExactSupport support) {
  return {.queries = tokens,
          .keys = tokens,
          .heads = 2,
          .key_dim = 8,
          .value_dim = 8,
          .scale = 0.35,
          .causal = causal,
          .features = 10,
          .epsilon = 1e-3,
          .support = std::move(support)};
}

BlockSupport Blocks(const BlockPattern& pattern, int64_t tokens, bool causal) {
  return {NewBlockLayout(pattern, tokens, tokens, causal, 3, {.tag = RandomTag::kHashProjections})
              .value()};
}

TEST_P(ScatterbrainIdentityTest, ASupportOfEverythingIsSoftmaxAttention) {
  constexpr int64_t tokens = 150;
  for (const bool causal : {false, true}) {
    for (const ExactSupport& support :
         {ExactSupport(WindowSupport{2 * tokens}), ExactSupport(WindowSupport{int64_t{1} << 62}),
          ExactSupport(HashSupport{2, tokens, tokens}),
          ExactSupport(Blocks({.block = 20, .window = 99}, tokens, causal))}) {
      const ScatterbrainInputs in =
          RandomScatterbrain(Problem(tokens, causal, support), /*seed=*/6, /*padded=*/false, 10.0);
      const ScatterbrainResults got = Run(in);
      DeviceRun run = GetParam().run();
      const SoftmaxProblem problem{.queries = tokens,
                                   .keys = tokens,
                                   .heads = 2,
                                   .kv_heads = 2,
                                   .head_dim = 8,
                                   .scale = in.problem.scale,
                                   .causal = causal};
      const ScatterbrainOperands operands = UploadScatterbrain(run, in);
      Tensor o = run.New(in.OutputShape());
      Tensor lse = run.New({1, 2, tokens});
      ASSERT_OK(SoftmaxForward(run.stream(), problem, operands.q, operands.k, operands.v,
                               operands.valid, o, lse));
      Tensor d_q = run.New(in.QueryShape());
      Tensor d_k = run.New(in.KeyShape());
      Tensor d_v = run.New(in.ValueShape());
      ASSERT_OK(SoftmaxBackward(run.stream(), problem, operands.q, operands.k, operands.v,
                                operands.valid, o, lse, run.Upload(in.d_o, in.OutputShape()), d_q,
                                d_k, d_v));
      ExpectSame(got.o, run.Download(o), in.Name());
      ExpectSame(got.log_normaliser, run.Download(lse), in.Name());
      ExpectSame(got.d_q, run.Download(d_q), in.Name());
      ExpectSame(got.d_k, run.Download(d_k), in.Name());
      ExpectSame(got.d_v, run.Download(d_v), in.Name());
      EXPECT_EQ(MaxMagnitude(got.share), 0.0) << in.Name();
    }
  }
}

// The padded case against the same problem without the padding.
TEST_P(ScatterbrainIdentityTest, PaddingIsAsIfItWereNotThere) {
  ScatterbrainProblem problem = Problem(90, /*causal=*/false, WindowSupport{300});
  for (const bool windowed : {true, false}) {
    if (!windowed) problem.support = {};
    ScatterbrainInputs in = RandomScatterbrain(problem);
    in.valid.assign(90, 1);
    for (const int64_t j : {0, 1, 17, 64, 88}) in.valid[j] = 0;
    ScatterbrainInputs shorter = in;
    shorter.valid.clear();
    shorter.problem.keys = 85;
    shorter.k.clear();
    shorter.v.clear();
    for (int64_t j = 0; j < 90; ++j) {
      if (in.valid[j] == 0) continue;
      shorter.k.insert(shorter.k.end(), in.k.begin() + j * 16, in.k.begin() + (j + 1) * 16);
      shorter.v.insert(shorter.v.end(), in.v.begin() + j * 16, in.v.begin() + (j + 1) * 16);
    }
    const ScatterbrainResults padded = Run(in);
    const ScatterbrainResults without = Run(shorter);
    ExpectSame(padded.o, without.o);
    ExpectSame(padded.d_q, without.d_q);
    for (int64_t j = 0; j < 16; ++j) EXPECT_EQ(padded.d_k[j], 0.0);
  }
}

TEST_P(ScatterbrainIdentityTest, NoSupportIsAQuotientOfFeatures) {
  ScatterbrainInputs in = RandomScatterbrain(Problem(7, /*causal=*/false, {}));
  in.problem.heads = 1;
  for (Values* values : {&in.q, &in.k, &in.v, &in.d_o}) values->resize(7 * 8);
  const ScatterbrainProblem& p = in.problem;
  const auto exponents = [&](const double* row) {
    Values x(p.features);
    for (int64_t l = 0; l < p.features; ++l) {
      double square = 0.0;
      for (int64_t d = 0; d < 8; ++d) {
        const double u = std::sqrt(p.scale) * row[d];
        x[l] += (l < 5 ? 1.0 : -1.0) * in.w[l % 5 * 8 + d] * u;
        square += u * u;
      }
      x[l] -= square / 2;
    }
    return x;
  };
  double largest = -1e9;
  for (int64_t j = 0; j < 7; ++j) {
    for (const double x : exponents(&in.k[j * 8])) largest = std::max(largest, x);
  }
  const double offset = p.epsilon / std::sqrt(10.0);
  Values want(7 * 8);
  for (int64_t i = 0; i < 7; ++i) {
    Values phi = exponents(&in.q[i * 8]);
    const double top = *std::max_element(phi.begin(), phi.end());
    for (double& x : phi) x = std::exp(x - top) + offset;
    double sum = 0.0;
    for (int64_t j = 0; j < 7; ++j) {
      const Values x = exponents(&in.k[j * 8]);
      double weight = 0.0;
      for (int64_t l = 0; l < 10; ++l) weight += phi[l] * (std::exp(x[l] - largest) + offset);
      sum += weight;
      for (int64_t e = 0; e < 8; ++e) want[i * 8 + e] += weight * in.v[j * 8 + e];
    }
    for (int64_t e = 0; e < 8; ++e) want[i * 8 + e] /= sum;
  }
  const ScatterbrainResults r = Run(in);
  ExpectSame(r.o, want);
  for (const double share : r.share) EXPECT_NEAR(share, 1.0, 1e-6);
}

std::vector<ExactSupport> Supports(int64_t tokens, bool causal) {
  return {ExactSupport(), ExactSupport(WindowSupport{20}), ExactSupport(HashSupport{2, 16, 16}),
          ExactSupport(Blocks({.block = 16, .window = 3, .random = 1}, tokens, causal))};
}

TEST_P(ScatterbrainIdentityTest, WeightsSumToOne) {
  for (const bool causal : {false, true}) {
    for (const ExactSupport& support : Supports(200, causal)) {
      ScatterbrainInputs in = RandomScatterbrain(Problem(200, causal, support), /*seed=*/2);
      std::fill(in.v.begin(), in.v.end(), 1.0);
      for (const double o : Run(in).o) EXPECT_NEAR(o, 1.0, 1e-5) << in.Name();
    }
  }
}

TEST_P(ScatterbrainIdentityTest, QueriesWithoutKeysGiveZeroAndTakeNoGradient) {
  for (const bool causal : {false, true}) {
    for (const ExactSupport& support : Supports(100, causal)) {
      ScatterbrainInputs in = RandomScatterbrain(Problem(100, causal, support));
      in.valid.assign(100, 0);  // no key at all; in the causal problem, none for the first queries
      if (causal) std::fill(in.valid.begin() + 70, in.valid.end(), 1);
      if (std::holds_alternative<HashSupport>(support)) {
        for (size_t t = 0; t < in.key_buckets.size(); ++t) {
          if (in.valid[t % 100] == 0) in.key_buckets[t] = in.query_buckets[t] = -1;
        }
      }
      const ScatterbrainResults r = Run(in);
      const int64_t blind = causal ? 70 : 100;
      for (int64_t x = 0; x < blind * 16; ++x) {
        EXPECT_EQ(r.o[x], 0.0) << in.Name();
        EXPECT_EQ(r.d_q[x], 0.0) << in.Name();
        EXPECT_EQ(r.d_k[x], 0.0) << in.Name();
        EXPECT_EQ(r.d_v[x], 0.0) << in.Name();
      }
      EXPECT_TRUE(std::isinf(r.log_normaliser[0]));
      for (const Values& values : {r.o, r.d_q, r.d_k, r.d_v}) {
        for (const double x : values) ASSERT_TRUE(std::isfinite(x)) << in.Name();
      }
      EXPECT_EQ(MaxMagnitude(r.o) > 0.1, causal) << in.Name();
    }
  }
}

TEST_P(ScatterbrainIdentityTest, ARoundTwiceIsARoundOnce) {
  ScatterbrainInputs once =
      RandomScatterbrain(Problem(100, /*causal=*/false, HashSupport{1, 16, 16}));
  ScatterbrainInputs twice = once;
  twice.problem.support = HashSupport{2, 16, 16};
  for (Ids* ids : {&twice.query_buckets, &twice.key_buckets}) {
    Ids doubled;
    for (int64_t head = 0; head < 2; ++head) {
      for (int64_t round = 0; round < 2; ++round) {
        doubled.insert(doubled.end(), ids->begin() + head * 100, ids->begin() + (head + 1) * 100);
      }
    }
    *ids = doubled;
  }
  ForEachScatterbrainResult([&](const char* what, const Values& got,
                                const Values& want) { EXPECT_EQ(got, want) << what; },
                            Run(twice), Run(once));
}

TEST_P(ScatterbrainIdentityTest, TheLastCausalQueryIsABidirectionalOne) {
  for (const int64_t width : {2, 40}) {
    ScatterbrainProblem problem = Problem(130, /*causal=*/true, WindowSupport{width});
    problem.epsilon = 0.0;  // with epsilon the keys' maxima matter, and a causal one is its own
    ScatterbrainInputs in = RandomScatterbrain(problem);
    const Values causal = Run(in).o;
    in.problem.causal = false;
    const Values both = Run(in).o;
    ExpectSame(Values(causal.end() - 16, causal.end()), Values(both.end() - 16, both.end()));
  }
}

// A channel in which all keys are equal and all rows of W point the same way multiplies all weights
// of a query alike, exact and low-rank ones: its gradient is the sum of all gradients of logarithms
// of weights, which is zero.
TEST_P(ScatterbrainIdentityTest, GradientsOfWeightsCancelInARow) {
  constexpr int64_t tokens = 60;
  for (const bool causal : {false, true}) {
    for (const ExactSupport& support : Supports(tokens, causal)) {
      for (const bool padded : {false, true}) {
        ScatterbrainProblem problem = Problem(tokens, causal, support);
        problem.epsilon = 0.0;
        problem.hyperbolic = false;  // rows of one sign
        ScatterbrainInputs in = RandomScatterbrain(problem, /*seed=*/3, padded);
        const double level = 0.75;
        for (size_t x = 7; x < in.q.size(); x += 8) {
          in.q[x] = 0.0;
          in.k[x] = level;
        }
        for (size_t x = 7; x < in.w.size(); x += 8) in.w[x] = std::sqrt(problem.scale) * level;
        const ScatterbrainResults r = Run(in);
        double sum = 0.0;
        for (size_t x = 0; x < r.d_q.size(); ++x) {
          if (x % 8 == 7) {
            EXPECT_NEAR(r.d_q[x], 0.0, GetParam().tolerance) << in.Name();
          } else {
            sum += std::abs(r.d_q[x]);
          }
        }
        EXPECT_GT(sum, 1.0) << in.Name();
      }
    }
  }
}

TEST_P(ScatterbrainIdentityTest, DecodingTokenByTokenEqualsTheWholeSequence) {
  constexpr int64_t tokens = 90;
  for (const double epsilon : {0.0, 0.01}) {
    for (const ExactSupport& support :
         {ExactSupport(), ExactSupport(WindowSupport{1}), ExactSupport(WindowSupport{21}),
          ExactSupport(WindowSupport{500}),
          ExactSupport(
              Blocks({.block = 16, .window = 3, .global = 1, .random = 1}, tokens, true))}) {
      ScatterbrainProblem problem = Problem(tokens, /*causal=*/true, support);
      problem.batch = 2;
      problem.value_dim = 5;
      problem.epsilon = epsilon;
      const ScatterbrainInputs in = RandomScatterbrain(problem);
      const Values whole = Run(in).o;
      DeviceRun run = GetParam().run();
      ASSERT_OK_AND_ASSIGN(ScatterbrainState state, NewScatterbrainState(run.device(), problem));
      const auto row = [&](const Values& values, int64_t t, int64_t width) {
        Values picked;
        for (int64_t b = 0; b < 2; ++b) {
          const auto first = values.begin() + (b * tokens + t) * 2 * width;
          picked.insert(picked.end(), first, first + 2 * width);
        }
        return picked;
      };
      const Tensor w = run.Upload(in.w, {problem.feature_rows(), 8});
      Tensor o = run.New({2, 1, 2, 5});
      for (int64_t t = 0; t < tokens; ++t) {
        ASSERT_OK(ScatterbrainDecode(run.stream(), problem,
                                     run.Upload(row(in.q, t, 8), {2, 1, 2, 8}),
                                     run.Upload(row(in.k, t, 8), {2, 1, 2, 8}),
                                     run.Upload(row(in.v, t, 5), {2, 1, 2, 5}), w, state, o));
        ExpectSame(run.Download(o), row(whole, t, 5), absl::StrCat(t, " ", in.Name()));
      }
      EXPECT_THAT(ScatterbrainDecode(run.stream(), problem, o, o, o, w, state, o),
                  StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("longer than the 90 tokens")));
    }
  }
}

// ---- The approximation itself, in fp64

// exp(scale q k) and the weights that the mechanism uses instead: with unit vectors as values, the
// results are the rows of weights over their sums.
struct Weights {
  Values exact;
  Values used;
};

Weights WeightsOf(ScatterbrainInputs in) {
  const int64_t tokens = in.problem.keys;
  in.problem.value_dim = tokens;
  in.v.assign(tokens * tokens, 0.0);
  for (int64_t j = 0; j < tokens; ++j) in.v[j * tokens + j] = 1.0;
  in.d_o.assign(in.OutputShape().count(), 0.0);
  const ScatterbrainResults r = RunScatterbrain(DeviceRun::Reference(), in);
  Weights weights{Values(r.o.size()), Values(r.o.size())};
  for (int64_t i = 0; i < in.problem.queries; ++i) {
    for (int64_t j = 0; j < tokens; ++j) {
      double dot = 0.0;
      for (int64_t d = 0; d < in.problem.key_dim; ++d) {
        dot += in.q[i * in.problem.key_dim + d] * in.k[j * in.problem.key_dim + d];
      }
      weights.exact[i * tokens + j] = std::exp(in.problem.scale * dot);
      weights.used[i * tokens + j] = r.o[i * tokens + j] * std::exp(r.log_normaliser[i]);
    }
  }
  return weights;
}

ScatterbrainInputs OneHead(int64_t tokens, ExactSupport support, int64_t features, uint32_t seed) {
  return RandomScatterbrain({.queries = tokens,
                             .keys = tokens,
                             .key_dim = 8,
                             .value_dim = 1,
                             .scale = 1.0 / std::sqrt(8.0),
                             .features = features,
                             .support = std::move(support)},
                            seed);
}

TEST(ScatterbrainErrorTest, ASupportLowersTheErrorOfEveryDraw) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    const Weights without = WeightsOf(OneHead(40, {}, 16, seed));
    const double before = RootMeanSquareDifference(without.used, without.exact);
    for (const ExactSupport& support :
         {ExactSupport(WindowSupport{5}), ExactSupport(HashSupport{2, 8, 8})}) {
      const Weights with = WeightsOf(OneHead(40, support, 16, seed));
      EXPECT_LT(RootMeanSquareDifference(with.used, with.exact), before) << seed;
      EXPECT_GE(*std::min_element(with.used.begin(), with.used.end()), 0.0);
    }
  }
}

TEST(ScatterbrainErrorTest, ManyFeaturesComeCloseToTheExactWeights) {
  const Weights weights = WeightsOf(OneHead(12, WindowSupport{3}, 30000, /*seed=*/1));
  double error = 0.0;
  for (size_t x = 0; x < weights.used.size(); ++x) {
    error += std::abs(weights.used[x] / weights.exact[x] - 1.0);
  }
  EXPECT_LT(error / static_cast<double>(weights.used.size()), 0.02);
}

// Var = SM^2 (e^{|z|^2} - 1) / r with z = u_q + u_k and SM = exp(u_q . u_k); times 1 - e^{-|z|^2}
// when hyperbolic.
TEST(ScatterbrainErrorTest, LowRankWeightsHaveTheirMeanAndVariance) {
  DeviceRun run = DeviceRun::Reference();
  const Values q = {0.3, -0.2};
  const Values k = {0.4, 0.3};
  const double square = 0.7 * 0.7 + 0.1 * 0.1;
  const double mean = std::exp(0.3 * 0.4 - 0.2 * 0.3);
  for (const bool hyperbolic : {false, true}) {
    const ScatterbrainProblem problem{.queries = 1,
                                      .keys = 1,
                                      .key_dim = 2,
                                      .value_dim = 1,
                                      .features = 2,
                                      .hyperbolic = hyperbolic};
    ScatterbrainOperands in{.q = run.Upload(q, {1, 1, 1, 2}),
                            .k = run.Upload(k, {1, 1, 1, 2}),
                            .v = run.Upload({1.0}, {1, 1, 1, 1}),
                            .w = run.New({problem.feature_rows(), 2}),
                            .valid = {},
                            .buckets = {}};
    Tensor o = run.New({1, 1, 1, 1});
    ASSERT_OK_AND_ASSIGN(ScatterbrainSaved saved, NewScatterbrainSaved(run.device(), problem));
    constexpr int draws = 100000;
    double sum = 0.0;
    double squares = 0.0;
    for (int draw = 0; draw < draws; ++draw) {
      Values w(problem.feature_rows() * 2);
      FillNormal(1, {.tag = RandomTag::kFeatureMatrix}, static_cast<uint32_t>(draw), 0,
                 absl::MakeSpan(w));
      ASSERT_OK(run.device().CopyFromHost(in.w, w.data(), run.stream()));
      ASSERT_OK(ScatterbrainForward(run.stream(), problem, in, o, saved));
      const double weight = std::exp(saved.log_normaliser.data<double>()[0]);
      sum += weight;
      squares += (weight - mean) * (weight - mean);
    }
    const double variance =
        mean * mean * (std::exp(square) - 1.0) / 2.0 * (hyperbolic ? 1.0 - std::exp(-square) : 1.0);
    EXPECT_NEAR(sum / draws, mean, 4.0 * std::sqrt(variance / draws)) << hyperbolic;
    EXPECT_NEAR(squares / draws, variance, 0.1 * variance) << hyperbolic;
  }
}

}  // namespace
}  // namespace weft::kernels::testing
