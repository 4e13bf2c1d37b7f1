// The fp64 Scatterbrain against the formulas on dense matrices and against difference quotients.
#include <gtest/gtest.h>

#include "tests/kernels/attention/scatterbrain_testing.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

std::shared_ptr<const BlockLayout> Layout(int64_t queries, int64_t keys, bool causal) {
  return NewBlockLayout({.block = 3, .window = 1, .global = 1, .random = 1}, queries, keys, causal,
                        7, {.tag = RandomTag::kHashProjections})
      .value();
}

// Every support and kind of feature over odd shapes.
std::vector<ScatterbrainInputs> SmallProblems() {
  std::vector<ScatterbrainInputs> problems;
  for (const bool causal : {false, true}) {
    const int64_t queries = 9;
    const int64_t keys = causal ? 9 : 7;
    for (const ExactSupport& support :
         {ExactSupport(), ExactSupport(WindowSupport{3}), ExactSupport(WindowSupport{4}),
          ExactSupport(HashSupport{.rounds = 2, .query_bucket = 3, .key_bucket = causal ? 3 : 3}),
          ExactSupport(BlockSupport{Layout(queries, keys, causal)})}) {
      for (const double epsilon : {0.0, 0.05}) {
        for (const bool hyperbolic : {false, true}) {
          for (const bool padded : {false, true}) {
            const ScatterbrainProblem problem{.batch = 2,
                                              .queries = queries,
                                              .keys = keys,
                                              .heads = 2,
                                              .key_dim = 4,
                                              .value_dim = 3,
                                              .scale = 0.5,
                                              .causal = causal,
                                              .features = hyperbolic ? 6 : 3,
                                              .hyperbolic = hyperbolic,
                                              .epsilon = epsilon,
                                              .support = support};
            problems.push_back(
                RandomScatterbrain(problem, static_cast<uint32_t>(problems.size() + 1), padded));
          }
        }
      }
    }
  }
  return problems;
}

std::vector<ScatterbrainInputs> DroppingProblems() {
  std::vector<ScatterbrainInputs> problems;
  for (ScatterbrainInputs in : SmallProblems()) {
    if (std::holds_alternative<std::monostate>(in.problem.support)) continue;
    in.problem.dropout = {.probability = 0.4, .seed = 5, .step = 3, .layer = 1};
    for (const auto dropped :
         {ScatterbrainProblem::Dropped::kExact, ScatterbrainProblem::Dropped::kCorrection}) {
      in.problem.dropped = dropped;
      problems.push_back(in);
    }
  }
  return problems;
}

TEST(ScatterbrainReferenceTest, EqualsTheFormulasOnDenseMatrices) {
  std::vector<ScatterbrainInputs> problems = SmallProblems();
  for (ScatterbrainInputs& in : DroppingProblems()) problems.push_back(std::move(in));
  for (const ScatterbrainInputs& in : problems) {
    ForEachScatterbrainResult(
        [&](const char* what, const Values& got, const Values& want) {
          EXPECT_LE(MaxDifference(got, want), 1e-12 * (1.0 + MaxMagnitude(want)))
              << what << " " << in.Name();
        },
        RunScatterbrain(DeviceRun::Reference(), in), PlainScatterbrain<double>::Run(in));
  }
}

TEST(ScatterbrainReferenceTest, EqualsTheFormulasForOddShapesAndManyRounds) {
  int64_t buckets = 4;
  for (const int64_t rounds : {1, 2, 3}) {
    const int64_t query_bucket = (47 + buckets - 1) / buckets;
    const int64_t key_bucket = (39 + buckets - 1) / buckets;
    for (const double scale : {1.0 / std::sqrt(21.0), 1.0, 0.235}) {
      for (const int64_t features : {26, 73}) {
        const ScatterbrainInputs in =
            RandomScatterbrain({.batch = 2,
                                .queries = 47,
                                .keys = 39,
                                .heads = 3,
                                .key_dim = 21,
                                .value_dim = 17,
                                .scale = scale,
                                .features = features,
                                .hyperbolic = features == 26,
                                .support = HashSupport{rounds, query_bucket, key_bucket}},
                               static_cast<uint32_t>(features));
        ForEachScatterbrainResult(
            [&](const char* what, const Values& got, const Values& want) {
              // With scale 1 the low-rank weights span many orders of size.
              EXPECT_LE(MaxDifference(got, want), 1e-11 * (1.0 + MaxMagnitude(want)))
                  << what << " " << in.Name() << " scale " << scale;
            },
            RunScatterbrain(DeviceRun::Reference(), in), PlainScatterbrain<double>::Run(in));
      }
    }
    buckets += 2;
  }
}

double Loss(DeviceRun& run, const ScatterbrainInputs& in) {
  const ScatterbrainOperands operands = UploadScatterbrain(run, in);
  Tensor o = run.New(in.OutputShape());
  ScatterbrainSaved saved = NewScatterbrainSaved(run.device(), in.problem).value();
  EXPECT_OK(ScatterbrainForward(run.stream(), in.problem, operands, o, saved));
  const Values values = run.Download(o);
  double loss = 0.0;
  for (size_t i = 0; i < values.size(); ++i) loss += values[i] * in.d_o[i];
  return loss;
}

void ExpectDifferenceQuotients(ScatterbrainInputs in) {
  const ScatterbrainResults r = RunScatterbrain(DeviceRun::Reference(), in);
  DeviceRun run = DeviceRun::Reference();
  const auto check = [&](Values& x, const Values& gradient, const char* what) {
    ASSERT_EQ(x.size(), gradient.size());
    for (size_t i = 0; i < x.size(); i += 7) {  // every seventh: shapes are odd
      const double kept = x[i];
      constexpr double step = 2e-5;  // short: with epsilon, a maximum may change hands
      const auto at = [&](double steps) {
        x[i] = kept + steps * step;
        return Loss(run, in);
      };
      const double slope = (at(-2) - 8 * at(-1) + 8 * at(1) - at(2)) / (12 * step);
      x[i] = kept;
      EXPECT_NEAR(slope, gradient[i], 1e-8) << what << i << " " << in.Name();
    }
  };
  check(in.q, r.d_q, "d_q");
  check(in.k, r.d_k, "d_k");
  check(in.v, r.d_v, "d_v");
}

TEST(ScatterbrainReferenceTest, GradientsAreDifferenceQuotients) {
  for (const ScatterbrainInputs& in : SmallProblems()) ExpectDifferenceQuotients(in);
}

TEST(ScatterbrainReferenceTest, GradientsUnderDropoutAreDifferenceQuotients) {
  for (const ScatterbrainInputs& in : DroppingProblems()) ExpectDifferenceQuotients(in);
}

}  // namespace
}  // namespace weft::kernels::testing
