// The fp32 tiles of Scatterbrain against the fp64 pairs, and what they promise about bits.
#include <gtest/gtest.h>

#include "tests/kernels/attention/scatterbrain_testing.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

// Windows around the tiles of the CPU (64 tokens), beside every other kind of support.
std::vector<ScatterbrainProblem> SupportedProblems(int64_t queries, int64_t keys, bool causal) {
  return EverySupport(queries, keys, causal, /*windows=*/{1, 2, 33, 64, 130, 5000}, /*buckets=*/9);
}

void ExpectAsExactAsPlainScatterbrain(const ScatterbrainInputs& in) {
  const ScatterbrainResults plain_results = PlainScatterbrain<float>::Run(in);
  // Gradients are differences of terms of size one; what a support leaves of the low-rank total is
  // a difference too.
  const double terms = std::max(1.0, plain_results.largest_total);
  ForEachScatterbrainResult(
      [&](absl::string_view what, const Values& got, const Values& plain, const Values& exact) {
        if (what == "log_normaliser") {
          for (size_t i = 0; i < exact.size(); ++i) {
            if (std::isinf(exact[i])) {
              EXPECT_EQ(got[i], exact[i]) << in.Name();
            } else {
              EXPECT_NEAR(got[i], exact[i], 4e-6 * (1.0 + std::abs(exact[i]))) << in.Name();
            }
          }
          return;
        }
        ExpectAsExactAsPlain(got, plain, exact, absl::StrCat(what, " ", in.Name()), terms);
      },
      RunScatterbrain(DeviceRun::Cpu(), in), plain_results,
      RunScatterbrain(DeviceRun::Reference(), in));
}

TEST(ScatterbrainCpuTest, EqualsTheReferenceForEverySupport) {
  for (const int64_t length : {1, 63, 64, 65, 200}) {
    for (const bool causal : {false, true}) {
      for (const ScatterbrainProblem& problem : SupportedProblems(length, length, causal)) {
        ExpectAsExactAsPlainScatterbrain(RandomScatterbrain(problem));
      }
    }
  }
}

TEST(ScatterbrainCpuTest, EqualsTheReferenceForUnequalLengths) {
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{47, 39}, {30, 170}, {170, 30}}) {
    for (const ScatterbrainProblem& problem : SupportedProblems(queries, keys, /*causal=*/false)) {
      ExpectAsExactAsPlainScatterbrain(RandomScatterbrain(problem));
    }
  }
}

TEST(ScatterbrainCpuTest, EqualsTheReferenceWithPaddingAndEpsilon) {
  for (const bool causal : {false, true}) {
    for (ScatterbrainProblem problem : SupportedProblems(150, 150, causal)) {
      problem.batch = 2;
      problem.epsilon = 0.01;
      ExpectAsExactAsPlainScatterbrain(RandomScatterbrain(problem, /*seed=*/2, /*padded=*/true));
    }
  }
}

TEST(ScatterbrainCpuTest, EqualsTheReferenceUnderDropout) {
  for (const bool causal : {false, true}) {
    for (ScatterbrainProblem problem : SupportedProblems(140, 140, causal)) {
      problem.dropout = {.probability = 0.3, .seed = 9, .step = 2, .layer = 3, .first_sequence = 4};
      problem.batch = 2;
      for (const auto dropped :
           {ScatterbrainProblem::Dropped::kExact, ScatterbrainProblem::Dropped::kCorrection}) {
        problem.dropped = dropped;
        ExpectAsExactAsPlainScatterbrain(RandomScatterbrain(problem, /*seed=*/3, /*padded=*/true));
      }
    }
  }
}

TEST(ScatterbrainCpuTest, HeadsAndFeaturesOfEverySizeEqualTheReference) {
  for (const int64_t dim : {1, 7, 60, 128}) {
    for (const int64_t features : {1, 6, 73}) {
      ScatterbrainProblem problem = SmallScatterbrain(100, 100, /*causal=*/true, WindowSupport{20});
      problem.batch = 2;
      problem.heads = 3;
      problem.key_dim = dim;
      problem.value_dim = dim + 3;
      problem.scale = 1.0 / std::sqrt(static_cast<double>(dim));
      problem.features = features;
      problem.hyperbolic = features == 6;
      ExpectAsExactAsPlainScatterbrain(RandomScatterbrain(problem));
    }
  }
}

// One sum over several tiles of keys, and a part of the last.
TEST(ScatterbrainCpuTest, EqualsTheReferenceOverManyTiles) {
  ExpectAsExactAsPlainScatterbrain(
      RandomScatterbrain(SmallScatterbrain(70, 2100, /*causal=*/false, {})));
  ExpectAsExactAsPlainScatterbrain(
      RandomScatterbrain(SmallScatterbrain(2100, 70, /*causal=*/false, {})));
}

TEST(ScatterbrainCpuTest, BitsDependOnNeitherThreadsNorTheRun) {
  for (const bool causal : {false, true}) {
    for (ScatterbrainProblem problem : SupportedProblems(200, 200, causal)) {
      problem.batch = 2;
      problem.epsilon = 1e-4;
      problem.dropout.probability = 0.1;
      const ScatterbrainInputs in = RandomScatterbrain(problem, /*seed=*/4, /*padded=*/true);
      const ScatterbrainResults once = RunScatterbrain(DeviceRun::Cpu(1), in);
      for (const int threads : {1, 2, 3}) {
        ForEachScatterbrainResult(
            [&](const char* what, const Values& got, const Values& want) {
              EXPECT_EQ(got, want) << what << " with " << threads << " threads, " << in.Name();
            },
            RunScatterbrain(DeviceRun::Cpu(threads), in), once);
      }
    }
  }
}

// More heads than are computed at a time.
TEST(ScatterbrainCpuTest, AHeadDoesNotDependOnItsNeighbours) {
  ScatterbrainProblem problem = SmallScatterbrain(1500, 1500, /*causal=*/false, WindowSupport{40});
  problem.heads = 40;
  problem.key_dim = 16;
  problem.value_dim = 16;
  problem.features = 64;
  const ScatterbrainInputs in = RandomScatterbrain(problem);
  const ScatterbrainResults all = RunScatterbrain(DeviceRun::Cpu(), in);
  ScatterbrainInputs one = in;
  one.problem.heads = 1;
  const auto last_head = [&](const Values& values) {
    Values picked;
    for (int64_t t = 0; t < 1500; ++t) {
      const auto row = values.begin() + (t * 40 + 39) * 16;
      picked.insert(picked.end(), row, row + 16);
    }
    return picked;
  };
  for (Values* values : {&one.q, &one.k, &one.v, &one.d_o}) *values = last_head(*values);
  const ScatterbrainResults alone = RunScatterbrain(DeviceRun::Cpu(), one);
  EXPECT_EQ(last_head(all.o), alone.o);
  EXPECT_EQ(last_head(all.d_q), alone.d_q);
  EXPECT_EQ(last_head(all.d_k), alone.d_k);
  EXPECT_EQ(last_head(all.d_v), alone.d_v);
}

TEST(ScatterbrainCpuTest, ALaterTokenChangesNoEarlierBit) {
  for (const ExactSupport& support : {ExactSupport(), ExactSupport(WindowSupport{50}),
                                      ExactSupport(RandomBlocks(16, 300, 300, /*causal=*/true))}) {
    ScatterbrainProblem problem = SmallScatterbrain(300, 300, /*causal=*/true, support);
    problem.epsilon = 0.01;
    const ScatterbrainInputs in = RandomScatterbrain(problem);
    const Values before = RunScatterbrain(DeviceRun::Cpu(), in).o;
    for (const int64_t t : {1, 30, 63, 64, 127, 200, 299}) {
      ScatterbrainInputs changed = in;
      // Longer vectors move every maximum that they are part of.
      for (int64_t i = 0; i < 16; ++i) changed.q[t * 16 + i] = 3.0 - changed.q[t * 16 + i];
      for (int64_t i = 0; i < 16; ++i) changed.k[t * 16 + i] = 3.0 - changed.k[t * 16 + i];
      for (int64_t i = 0; i < 10; ++i) changed.v[t * 10 + i] += 3.0;
      const Values after = RunScatterbrain(DeviceRun::Cpu(), changed).o;
      EXPECT_TRUE(std::equal(before.begin(), before.begin() + t * 10, after.begin()))
          << t << " " << in.Name();
      EXPECT_FALSE(std::equal(before.begin() + t * 10, before.end(), after.begin() + t * 10))
          << t << " " << in.Name();
    }
  }
}

TEST(ScatterbrainCpuTest, LargeLogitsStayFinite) {
  for (const bool causal : {false, true}) {
    for (const ScatterbrainProblem& problem : SupportedProblems(130, 130, causal)) {
      // Logits reach about +-80.
      const ScatterbrainInputs in =
          RandomScatterbrain(problem, /*seed=*/4, /*padded=*/false, /*spread=*/80.0);
      ForEachScatterbrainResult(
          [&](const char* what, const Values& got) {
            for (const double x : got) ASSERT_TRUE(std::isfinite(x)) << what << " " << in.Name();
          },
          RunScatterbrain(DeviceRun::Cpu(), in));
    }
  }
}

}  // namespace
}  // namespace weft::kernels::testing
