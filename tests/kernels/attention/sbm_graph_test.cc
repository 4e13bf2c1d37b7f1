// Graphs of SBM attention: the same on every device, for any split of the work; the extremes; what
// may never be an edge.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/kernels/attention/sbm_testing.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

using ::testing::HasSubstr;
using weft::testing::StatusIs;

constexpr SbmSampler kSamplers[] = {SbmSampler::kPoisson, SbmSampler::kPoissonCopies,
                                    SbmSampler::kExact, SbmSampler::kDense};

void ExpectSameGraph(const SbmResults& a, const SbmResults& b, const std::string& name) {
  EXPECT_EQ(a.bits, b.bits) << name;
  EXPECT_EQ(a.copies, b.copies) << name;
  EXPECT_LE(MaxDifference(a.density, b.density), 1e-6) << name;
}

void ExpectSameOnBothDevices(const SbmInputs& in) {
  ExpectSameGraph(SampleSbm(DeviceRun::Cpu(), in), SampleSbm(DeviceRun::Reference(), in),
                  in.Name());
}

TEST(SbmGraphTest, BothDevicesDrawTheSameEdges) {
  for (const SbmSampler sampler : kSamplers) {
    for (const bool causal : {false, true}) {
      for (const int64_t keys : {1, 63, 64, 65, 150}) {
        for (const bool padded : {false, true}) {
          for (const bool training : {true, false}) {
            SbmInputs in = RandomSbm({.batch = 2,
                                      .queries = keys,
                                      .keys = keys,
                                      .heads = 2,
                                      .head_dim = 1,
                                      .clusters = 5,
                                      .causal = causal,
                                      .sampler = sampler});
            in.draws.training = training;
            if (padded) PadEnds(in, 9);
            ExpectSameOnBothDevices(in);
          }
        }
      }
    }
  }
}

TEST(SbmGraphTest, FewQueriesAndManyClustersDrawTheSameEdges) {
  for (const SbmSampler sampler : kSamplers) {
    for (const int64_t clusters : {1, 2, 33, 130}) {
      ExpectSameOnBothDevices(RandomSbm({.queries = 7,
                                         .keys = 90,
                                         .heads = 2,
                                         .head_dim = 1,
                                         .clusters = clusters,
                                         .causal = true,
                                         .sampler = sampler}));
    }
  }
}

// Beyond 2^11 keys sums are shortened, beyond 4095 they have 64 bits.
TEST(SbmGraphTest, LongSequencesDrawTheSameEdges) {
  for (const SbmSampler sampler : kSamplers) {
    for (const int64_t keys : {2047, 2048, 4095, 4096, 5000}) {
      for (const bool causal : {false, true}) {
        ExpectSameOnBothDevices(RandomSbm({.queries = 2,
                                           .keys = keys,
                                           .head_dim = 1,
                                           .clusters = 3,
                                           .causal = causal,
                                           .sampler = sampler}));
      }
    }
  }
}

// The estimate of p in fp32 is too near to many draws only if p is wrong; here every word is near.
TEST(SbmGraphTest, ProbabilitiesAtTheirBoundsDrawTheSameEdges) {
  for (const SbmSampler sampler : kSamplers) {
    for (const double member : {0.0, 1e-6, 1.0, 1.0 - 1e-6}) {
      SbmInputs in = RandomSbm({.queries = 100,
                                .keys = 100,
                                .head_dim = 1,
                                .clusters = 4,
                                .sampler = sampler,
                                .exploration = 0.0});
      std::fill(in.query.begin(), in.query.end(), member);
      std::fill(in.key.begin(), in.key.end(), member);
      ExpectSameOnBothDevices(in);
    }
  }
}

TEST(SbmGraphTest, MembershipsOutOfRangeAreBroughtInside) {
  for (const SbmSampler sampler : kSamplers) {
    SbmInputs in = RandomSbm({.queries = 80,
                              .keys = 80,
                              .head_dim = 1,
                              .clusters = 4,
                              .causal = true,
                              .sampler = sampler});
    for (size_t i = 0; i < in.query.size(); i += 5) in.query[i] = std::nan("");
    for (size_t i = 0; i < in.key.size(); i += 3) in.key[i] = -1.0;
    for (size_t i = 1; i < in.key.size(); i += 7) in.key[i] = HUGE_VAL;
    in.affinity[3] = std::nan("");
    ExpectSameOnBothDevices(in);
  }
}

SbmProblem Everyone(int64_t length, SbmSampler sampler, bool causal = false) {
  return {.batch = 2,
          .queries = length,
          .keys = length,
          .heads = 2,
          .head_dim = 1,
          .clusters = 6,
          .causal = causal,
          .sampler = sampler,
          .exploration = 0.0};
}

TEST(SbmGraphTest, FullMembershipsLinkEveryPairInTheExactModes) {
  for (const SbmSampler sampler : {SbmSampler::kExact, SbmSampler::kDense}) {
    for (const bool causal : {false, true}) {
      SbmInputs in = RandomSbm(Everyone(100, sampler, causal), 1, /*lowest=*/1.0);
      // The affinity in fp32 sums to 1 within a few roundings; the exploration covers them.
      in.problem.exploration = 1e-6;
      PadEnds(in, 10);
      const Values density = SampleSbm(DeviceRun::Cpu(), in).density;
      EXPECT_EQ(density, Values(4, 1.0));
    }
  }
}

TEST(SbmGraphTest, FullMembershipsLinkAnEthLessInThePoissonMode) {
  const SbmInputs in = RandomSbm(Everyone(300, SbmSampler::kPoisson), 1, /*lowest=*/1.0);
  const double p = 1.0 - std::exp(-1.0);
  for (const double density : SampleSbm(DeviceRun::Cpu(), in).density) {
    EXPECT_NEAR(density, p, 5 * std::sqrt(p * (1 - p) / (300 * 300)));
  }
}

// One probability for all pairs: 0.26 of them are linked where edges are drawn with it, 0.229 where
// copies of an edge are merged, and 0.26 counting copies.
TEST(SbmGraphTest, DensitiesFollowTheLawOfTheSampler) {
  for (const auto& [sampler, want] : {std::pair{SbmSampler::kPoisson, 0.2289},
                                      {SbmSampler::kPoissonCopies, 0.26},
                                      {SbmSampler::kExact, 0.26},
                                      {SbmSampler::kDense, 0.26}}) {
    SbmInputs in = RandomSbm(Everyone(300, sampler), 1, /*lowest=*/1.0);
    for (double& member : in.query) member = 0.26;
    for (const double density : SampleSbm(DeviceRun::Cpu(), in).density) {
      EXPECT_NEAR(density, want, 5 * std::sqrt(0.26 / (300 * 300))) << in.Name();
    }
  }
}

TEST(SbmGraphTest, NoMembershipsLinkNobody) {
  for (const SbmSampler sampler : kSamplers) {
    SbmInputs in = RandomSbm(Everyone(100, sampler));
    std::fill(in.query.begin(), in.query.end(), 0.0);
    const SbmResults graph = SampleSbm(DeviceRun::Cpu(), in);
    EXPECT_EQ(graph.density, Values(4, 0.0));
    EXPECT_EQ(graph.bits, std::vector<uint32_t>(graph.bits.size(), 0));
  }
}

TEST(SbmGraphTest, ExplorationReachesEveryPair) {
  for (const SbmSampler sampler : kSamplers) {
    SbmInputs in = RandomSbm(Everyone(300, sampler));
    std::fill(in.query.begin(), in.query.end(), 0.0);
    in.problem.exploration = 0.05;
    const SbmResults graph = SampleSbm(DeviceRun::Cpu(), in);
    const double p = sampler == SbmSampler::kPoisson ? 1.0 - std::exp(-0.05) : 0.05;
    for (const double density : graph.density) {
      EXPECT_NEAR(density, p, 5 * std::sqrt(0.05 / (300 * 300)));
    }
  }
}

TEST(SbmGraphTest, OnlyPairsThatMayBeEdgesAre) {
  for (const SbmSampler sampler : kSamplers) {
    for (const bool causal : {false, true}) {
      SbmInputs in = RandomSbm({.batch = 3,
                                .queries = 70,
                                .keys = 90,
                                .heads = 2,
                                .head_dim = 1,
                                .clusters = 3,
                                .causal = causal,
                                .sampler = sampler,
                                .exploration = 0.5},
                               1, /*lowest=*/0.9);
      PadEnds(in, 5);
      in.valid[90 + 40] = 0;  // a hole
      const SbmResults graph = SampleSbm(DeviceRun::Cpu(), in);
      const Mask mask = MaskOf(in, graph);
      double edges = 0, pairs = 0;
      for (size_t n = 0; n < mask.size(); ++n) {
        const auto at = static_cast<int64_t>(n);
        if (in.MayLink(at / 90 / 70 / 2, at / 90 % 70, at % 90)) {
          if (at / 90 / 70 == 0) pairs += 1;
        } else {
          EXPECT_EQ(mask[n], 0) << in.Name() << " " << n;
        }
        if (at / 90 / 70 == 0) edges += mask[n];
      }
      EXPECT_NEAR(graph.density[0], edges / pairs, 1e-6);
      EXPECT_GT(graph.density[0], 0.6);
    }
  }
}

TEST(SbmGraphTest, AGraphDoesNotDependOnHowTheBatchIsSplit) {
  for (const SbmSampler sampler : kSamplers) {
    SbmInputs whole = RandomSbm({.batch = 6,
                                 .queries = 70,
                                 .keys = 70,
                                 .heads = 2,
                                 .head_dim = 1,
                                 .clusters = 3,
                                 .sampler = sampler});
    whole.draws.first_sequence = 10;
    const SbmResults want = SampleSbm(DeviceRun::Cpu(3), whole);
    for (const int64_t size : {1, 2, 3}) {
      SbmResults got;
      for (int64_t first = 0; first < 6; first += size) {
        SbmInputs part = whole;
        part.problem.batch = size;
        part.draws.first_sequence = 10 + first;
        const auto cut = [&](Values& values) {
          const auto one = static_cast<int64_t>(values.size()) / 6;
          values = Values(values.begin() + first * one, values.begin() + (first + size) * one);
        };
        for (Values* values : {&part.q, &part.k, &part.v, &part.d_o, &part.query, &part.key}) {
          cut(*values);
        }
        const SbmResults some = SampleSbm(DeviceRun::Cpu(1), part);
        got.bits.insert(got.bits.end(), some.bits.begin(), some.bits.end());
        got.copies.insert(got.copies.end(), some.copies.begin(), some.copies.end());
        got.density.insert(got.density.end(), some.density.begin(), some.density.end());
      }
      ExpectSameGraph(got, want, whole.Name());
    }
  }
}

// What a text's later tokens and its padding are does not change its graph.
TEST(SbmGraphTest, ARowOfACausalGraphDependsOnItsPastAlone) {
  for (const SbmSampler sampler : kSamplers) {
    for (const int64_t length : {70, 2100}) {  // around where sums are shortened
      SbmInputs in = RandomSbm({.queries = length,
                                .keys = length,
                                .head_dim = 1,
                                .clusters = 3,
                                .causal = true,
                                .sampler = sampler});
      const Mask whole = MaskOf(in, SampleSbm(DeviceRun::Cpu(), in));
      for (const int64_t keys : {int64_t{1}, int64_t{2}, int64_t{64}, length - 53, length - 1}) {
        SbmInputs step = in;
        step.problem.queries = 1;
        step.problem.keys = keys;
        step.q.resize(1);
        step.d_o.resize(1);
        step.query = Values(in.query.begin() + (keys - 1) * 3, in.query.begin() + keys * 3);
        for (Values* values : {&step.k, &step.v}) values->resize(keys);
        step.key.resize(keys * 3);
        const Mask row = MaskOf(step, SampleSbm(DeviceRun::Cpu(), step));
        EXPECT_TRUE(std::equal(row.begin(), row.end(), whole.begin() + (keys - 1) * length))
            << in.Name() << " " << keys;
      }
    }
  }
}

TEST(SbmGraphTest, PaddingBehindATextDoesNotChangeItsGraph) {
  for (const SbmSampler sampler : kSamplers) {
    SbmInputs padded =
        RandomSbm({.queries = 100, .keys = 100, .head_dim = 1, .clusters = 3, .sampler = sampler});
    PadEnds(padded, 30);
    SbmInputs alone = padded;
    alone.valid.clear();
    alone.problem.queries = alone.problem.keys = 70;
    for (Values* values : {&alone.q, &alone.k, &alone.v, &alone.d_o}) values->resize(70);
    for (Values* values : {&alone.query, &alone.key}) values->resize(210);
    const Mask with = MaskOf(padded, SampleSbm(DeviceRun::Cpu(), padded));
    const Mask without = MaskOf(alone, SampleSbm(DeviceRun::Cpu(), alone));
    for (int64_t n = 0; n < 70 * 70; ++n) EXPECT_EQ(with[n / 70 * 100 + n % 70], without[n]);
  }
}

TEST(SbmGraphTest, OtherPlacesGiveOtherGraphs) {
  for (const SbmSampler sampler : kSamplers) {
    const SbmInputs in = RandomSbm({.batch = 2,
                                    .queries = 60,
                                    .keys = 60,
                                    .heads = 2,
                                    .head_dim = 1,
                                    .clusters = 3,
                                    .sampler = sampler});
    const auto differs = [&](auto change) {
      SbmInputs other = in;
      change(other);
      return SampleSbm(DeviceRun::Cpu(), other).bits != SampleSbm(DeviceRun::Cpu(), in).bits;
    };
    EXPECT_FALSE(differs([](SbmInputs& /*same*/) {}));
    EXPECT_TRUE(differs([](SbmInputs& other) { ++other.draws.seed; }));
    EXPECT_TRUE(differs([](SbmInputs& other) { ++other.draws.step; }));
    EXPECT_TRUE(differs([](SbmInputs& other) { ++other.draws.layer; }));
    EXPECT_TRUE(differs([](SbmInputs& other) { ++other.draws.first_sequence; }));
    EXPECT_TRUE(differs([](SbmInputs& other) { other.draws.training = false; }));
  }
}

TEST(SbmGraphTest, SequencesAndHeadsWithEqualMembershipsHaveGraphsOfTheirOwn) {
  SbmInputs in = RandomSbm(Everyone(60, SbmSampler::kPoisson));
  std::fill(in.query.begin(), in.query.end(), 0.5);
  std::fill(in.key.begin(), in.key.end(), 0.5);
  const std::vector<uint32_t> bits = SampleSbm(DeviceRun::Cpu(), in).bits;
  const size_t one = bits.size() / 4;
  for (size_t a = 0; a < 4; ++a) {
    for (size_t b = a + 1; b < 4; ++b) {
      EXPECT_FALSE(
          std::equal(bits.begin() + a * one, bits.begin() + (a + 1) * one, bits.begin() + b * one));
    }
  }
}

TEST(SbmGraphTest, RefusesMalformedProblemsAndPlaces) {
  DeviceRun run = DeviceRun::Cpu();
  const SbmProblem good{.queries = 2, .keys = 3, .heads = 4, .head_dim = 5, .clusters = 6};
  EXPECT_OK(Supports(run.device(), good));
  const auto refused = [&](auto change, const char* complaint) {
    SbmProblem bad = good;
    change(bad);
    EXPECT_THAT(Supports(run.device(), bad),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(complaint)));
  };
  refused([](SbmProblem& p) { p.head_dim = 0; }, "head_dim 0");
  refused([](SbmProblem& p) { p.queries = 4; }, "keys 3 outside [queries 4");
  refused([](SbmProblem& p) { p.clusters = 0; }, "clusters 0");
  refused([](SbmProblem& p) { p.scale = std::nan(""); }, "scale nan");
  refused([](SbmProblem& p) { p.exploration = 0.6; }, "exploration 0.6");
  refused([](SbmProblem& p) { p.dropout.probability = 1.0; }, "dropout 1");
  refused([](SbmProblem& p) { p.clip = 0.0; }, "clip 0");
  refused([](SbmProblem& p) { p.density_gradient = HUGE_VAL; }, "density_gradient inf");

  const SbmMemberships memberships{
      .query = run.New({1, 4, 2, 6}), .key = run.New({1, 4, 3, 6}), .affinity = run.New({4, 6, 6})};
  SbmGraph graph = NewSbmGraph(run.device(), good).value();
  const auto sample = [&](const SbmDraws& draws, const SbmMemberships& from) {
    return SbmSampleGraph(run.stream(), good, draws, from, Tensor(), graph);
  };
  EXPECT_OK(sample({}, memberships));
  EXPECT_THAT(sample({.step = 1U << 28}, memberships),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("step 268435456")));
  EXPECT_OK(sample({.first_sequence = (1 << 18) - 1}, memberships));
  EXPECT_THAT(sample({.first_sequence = 1 << 18}, memberships),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("4 heads of sequences 262144 to 262144")));
  SbmMemberships swapped = memberships;
  std::swap(swapped.query, swapped.key);
  EXPECT_THAT(sample({}, swapped),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("SbmSampleGraph: query memberships is f32[1, 4, 3, 6]")));
}

}  // namespace
}  // namespace weft::kernels::testing
