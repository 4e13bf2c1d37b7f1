// Gradients of the whole chain against finite differences of the loss that the straight-through
// estimate stands for; memberships and affinity against their definition.
#include <gtest/gtest.h>

#include <numeric>

#include "kernels/random/philox.h"
#include "tests/kernels/attention/sbm_chain.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

using ::testing::HasSubstr;
using weft::testing::StatusIs;

constexpr double kUnclipped = std::numeric_limits<double>::infinity();

// Five-point differences of every element.
void ExpectDifferenceQuotients(SbmChain& chain) {
  SbmParameters gradients = ChainGradients(DeviceRun::Reference(), chain);
  const Values p0 = PlainProbabilities(chain, chain.at);
  std::vector<const Values*> got;
  gradients.Each([&](const char*, Values& values) { got.push_back(&values); });
  size_t number = 0;
  chain.at.Each([&](const char* what, Values& x) {
    const Values& gradient = *got[number++];
    ASSERT_EQ(x.size(), gradient.size());
    for (size_t n = 0; n < x.size(); ++n) {
      const double kept = x[n];
      constexpr double step = 1e-3;
      const auto loss = [&](double steps) {
        x[n] = kept + steps * step;
        return SurrogateLoss(chain, chain.at, p0);
      };
      const double slope = (8.0 * (loss(1) - loss(-1)) - (loss(2) - loss(-2))) / (12.0 * step);
      x[n] = kept;
      // The error of the quotient is about step^4 / 30 of a fifth derivative.
      EXPECT_NEAR(slope, gradient[n], 1e-8) << what << n << " " << chain.in.Name();
    }
  });
}

// Queries that share some keys; query 2 has no edge, query 3 one alone.
Mask SomeEdges(const SbmInputs& in, bool copies) {
  Mask mask(in.LseShape().count() * in.problem.keys, 0);
  NumberStream numbers(77);
  for (size_t n = 0; n < mask.size(); ++n) {
    const auto at = static_cast<int64_t>(n);
    const int64_t row = at / in.problem.keys;
    const int64_t i = row % in.problem.queries;
    const int64_t b = row / in.problem.queries / in.problem.heads;
    const double drawn = numbers.Uniform();
    if (!in.MayLink(b, i, at % in.problem.keys) || i == 2) continue;
    if (i == 3) {
      mask[n] = at % in.problem.keys == 1 ? 1 : 0;
    } else if (drawn < 0.6) {
      mask[n] = copies && drawn < 0.3 ? 2 + static_cast<int>(at % 2) : 1;
    }
  }
  return mask;
}

TEST(SbmGradientTest, TheWholeChainEqualsDifferenceQuotients) {
  for (const SbmStraightThrough estimate :
       {SbmStraightThrough::kMask, SbmStraightThrough::kLogit}) {
    for (const bool copies : {false, true}) {
      for (const bool causal : {false, true}) {
        SbmChain chain =
            RandomChain({.batch = 2,
                         .queries = 5,
                         .keys = 6,
                         .heads = 2,
                         .head_dim = 4,
                         .clusters = 3,
                         .causal = causal,
                         .sampler = copies ? SbmSampler::kPoissonCopies : SbmSampler::kPoisson,
                         .dropout = Dropout(causal ? 0.3 : 0.0),
                         .straight_through = estimate,
                         .clip = kUnclipped,
                         .density_gradient = 0.7},
                        causal ? 4 : 5, /*padding=*/causal ? 0 : 1);
        chain.mask = SomeEdges(chain.in, copies);
        ExpectDifferenceQuotients(chain);
      }
    }
  }
}

// The same with fewer than all values of the parameters' gradients at zero before.
TEST(SbmGradientTest, GradientsOfParametersAreAdded) {
  SbmChain chain = RandomChain(
      {.batch = 2, .queries = 6, .keys = 6, .heads = 2, .head_dim = 4, .clusters = 3}, 4);
  chain.mask = SomeEdges(chain.in, false);
  for (const bool cpu : {false, true}) {
    const auto device = [cpu] { return cpu ? DeviceRun::Cpu() : DeviceRun::Reference(); };
    const SbmParameters from_zero = ChainGradients(device(), chain);
    const SbmParameters from_five = ChainGradients(device(), chain, 5.0);
    const auto added = [](Values values) {
      for (double& value : values) value += 5.0;
      return values;
    };
    EXPECT_LE(MaxDifference(from_five.w1, added(from_zero.w1)), 1e-6);
    EXPECT_LE(MaxDifference(from_five.b1, added(from_zero.b1)), 1e-6);
    EXPECT_LE(MaxDifference(from_five.w2, added(from_zero.w2)), 1e-6);
    EXPECT_LE(MaxDifference(from_five.b2, added(from_zero.b2)), 1e-6);
    EXPECT_LE(MaxDifference(from_five.clusters, added(from_zero.clusters)), 1e-6);
    EXPECT_GT(MaxMagnitude(from_zero.w1), 1e-3);
    EXPECT_GT(MaxMagnitude(from_zero.clusters), 1e-3);
  }
}

// Lengths around the blocks of the CPU: 256 tokens, ranges of 1024.
TEST(SbmGradientTest, TheWholeChainInFp32IsNearTheReference) {
  for (const int64_t tokens : {1, 255, 257, 1100}) {
    for (const int64_t head_dim : {5, 32}) {
      SbmChain chain = RandomChain({.batch = 2,
                                    .queries = tokens,
                                    .keys = tokens,
                                    .heads = 2,
                                    .head_dim = head_dim,
                                    .clusters = 7,
                                    .density_gradient = 1.0,
                                    .dense_above = head_dim == 5 ? 0.0 : 2.0},
                                   6);
      chain.mask.assign(4 * tokens * tokens, 0);
      for (size_t n = 0; n < chain.mask.size(); n += 1 + n % 97) chain.mask[n] = 1;
      SbmParameters got = ChainGradients(DeviceRun::Cpu(), chain);
      SbmParameters exact = ChainGradients(DeviceRun::Reference(), chain);
      std::vector<const Values*> want;
      exact.Each([&](const char*, Values& values) { want.push_back(&values); });
      size_t number = 0;
      got.Each([&](const char* what, Values& values) {
        // Sums of up to 4400 terms in fp32, each of a few roundings.
        const Values& e = *want[number++];
        EXPECT_LE(MaxDifference(values, e), 2e-5 * MaxMagnitude(e) + 1e-6)
            << what << " " << chain.in.Name();
      });
    }
  }
}

TEST(SbmGradientTest, BitsOfTheChainDependOnNeitherThreadsNorTheRun) {
  SbmChain chain = RandomChain(
      {.batch = 3, .queries = 300, .keys = 300, .heads = 2, .head_dim = 12, .clusters = 70}, 6);
  chain.mask.assign(6 * 300 * 300, 0);
  for (size_t n = 0; n < chain.mask.size(); n += 1 + n % 7) chain.mask[n] = 1;
  SbmParameters once = ChainGradients(DeviceRun::Cpu(1), chain);
  for (const int threads : {1, 2, 3}) {
    SbmParameters again = ChainGradients(DeviceRun::Cpu(threads), chain);
    std::vector<const Values*> want;
    once.Each([&](const char*, Values& values) { want.push_back(&values); });
    size_t number = 0;
    again.Each([&](const char* what, Values& values) {
      EXPECT_EQ(values, *want[number++]) << what << " with " << threads << " threads";
    });
  }
}

// ---- Memberships and affinity

struct BlockModel {
  Values memberships, affinity;
};

BlockModel RunBlockModel(DeviceRun run, const SbmChain& chain) {
  const SbmProblem& p = chain.in.problem;
  const int64_t d = p.head_dim;
  const SbmClusterModel model{.w1 = run.Upload(chain.at.w1, {d, d}),
                              .w2 = run.Upload(chain.at.w2, {d, d}),
                              .b1 = run.Upload(chain.at.b1, {d}),
                              .b2 = run.Upload(chain.at.b2, {d}),
                              .clusters = run.Upload(chain.at.clusters, {p.heads, p.clusters, d})};
  Tensor memberships = run.NewSum(chain.in.QueryMemberships());
  Tensor affinity = run.NewSum(chain.in.AffinityShape());
  EXPECT_OK(SbmMembershipForward(run.stream(), run.Upload(chain.at.q, chain.in.QueryShape()), model,
                                 memberships));
  EXPECT_OK(SbmAffinityForward(run.stream(), model.clusters, affinity));
  return {run.Download(memberships), run.Download(affinity)};
}

TEST(SbmMembershipTest, EqualTheirDefinitionOnBothDevices) {
  for (const int64_t tokens : {1, 37, 257}) {
    for (const int64_t clusters : {1, 6, 130}) {
      const SbmChain chain = RandomChain({.batch = 2,
                                          .queries = tokens,
                                          .keys = tokens,
                                          .heads = 3,
                                          .head_dim = 9,
                                          .clusters = clusters},
                                         8);
      const SbmProblem& p = chain.in.problem;
      const BlockModel exact = RunBlockModel(DeviceRun::Reference(), chain);
      EXPECT_LE(MaxDifference(exact.memberships,
                              PlainMemberships<double>(p, chain.at, chain.at.q, tokens)),
                1e-14);
      EXPECT_LE(MaxDifference(exact.affinity, PlainAffinity<double>(p, chain.at)), 1e-14);
      const BlockModel got = RunBlockModel(DeviceRun::Cpu(), chain);
      const auto widened = [](const std::vector<float>& x) { return Values(x.begin(), x.end()); };
      ExpectAsExactAsPlain(got.memberships,
                           widened(PlainMemberships<float>(p, chain.at, chain.at.q, tokens)),
                           exact.memberships, "memberships");
      ExpectAsExactAsPlain(got.affinity, widened(PlainAffinity<float>(p, chain.at)), exact.affinity,
                           "affinity");
    }
  }
}

// The published initial values: clusters normal with variance 2 / (K D), the map uniform within
// 1 / sqrt(D).
TEST(SbmMembershipTest, AtTheStartAQuarterOfThePairsIsLinked) {
  SbmChain chain =
      RandomChain({.queries = 60, .keys = 60, .heads = 2, .head_dim = 32, .clusters = 128}, 9);
  for (Values* values : {&chain.at.w1, &chain.at.b1, &chain.at.w2, &chain.at.b2}) {
    for (double& value : *values) value /= std::sqrt(32.0);
  }
  FillNormal(1, {}, 0, 0, absl::MakeSpan(chain.at.clusters));
  for (double& value : chain.at.clusters) value *= std::sqrt(2.0 / (128 * 32));
  for (const bool cpu : {false, true}) {
    const BlockModel block = RunBlockModel(cpu ? DeviceRun::Cpu() : DeviceRun::Reference(), chain);
    for (int64_t h = 0; h < 2; ++h) {
      const auto first = block.affinity.begin() + h * 128 * 128;
      EXPECT_NEAR(std::accumulate(first, first + 128 * 128, 0.0), 1.0, 1e-5);
      for (int64_t u = 0; u < 128; ++u) {
        for (int64_t v = 0; v < 128; ++v) {
          EXPECT_NEAR(first[u * 128 + v], first[v * 128 + u], 1e-9);
        }
      }
    }
  }
  const Values p = PlainProbabilities(chain, chain.at);
  EXPECT_GT(*std::min_element(p.begin(), p.end()), 0.0);
  EXPECT_LT(*std::max_element(p.begin(), p.end()), 1.0);
  EXPECT_NEAR(std::accumulate(p.begin(), p.end(), 0.0) / static_cast<double>(p.size()), 0.25, 0.01);
}

TEST(SbmMembershipTest, NamesTheOperandThatDoesNotFit) {
  DeviceRun run = DeviceRun::Cpu();
  const SbmClusterModel model{.w1 = run.New({4, 4}),
                              .w2 = run.New({4, 4}),
                              .b1 = run.New({4}),
                              .b2 = run.New({5}),
                              .clusters = run.New({2, 3, 4})};
  Tensor memberships = run.NewSum({1, 2, 6, 3});
  EXPECT_THAT(SbmMembershipForward(run.stream(), run.New({1, 6, 2, 4}), model, memberships),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("SbmMembershipForward: b2 is f32[5], expected f32[4]")));
  Tensor affinity = run.NewSum({2, 3, 4});
  EXPECT_THAT(SbmAffinityForward(run.stream(), model.clusters, affinity),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("SbmAffinityForward: affinity is f32[2, 3, 4]")));
}

}  // namespace
}  // namespace weft::kernels::testing
