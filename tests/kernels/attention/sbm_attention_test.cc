// SBM attention along given graphs: the reference against its definition, the fp32 code against the
// reference, and what both promise.
#include <gtest/gtest.h>

#include "kernels/attention/softmax/softmax.h"
#include "tests/kernels/attention/plain_sbm.h"

namespace weft::kernels::testing {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

// Everything that changes what is computed, at lengths around the blocks of the CPU (256 queries,
// 128 keys, words of 64).
std::vector<SbmInputs> Problems() {
  std::vector<SbmInputs> problems;
  const auto add = [&](SbmProblem problem, int64_t padding = 0) {
    problem.heads = 2;
    problem.head_dim = 8;
    problem.clusters = 5;
    for (const double dense_above : {0.0, 2.0}) {  // products under a mask; along lists
      problem.dense_above = dense_above;
      SbmInputs in = RandomSbm(problem);
      if (padding > 0) PadEnds(in, padding);
      problems.push_back(in);
    }
  };
  for (const int64_t length : {1, 63, 64, 65, 130, 300}) {
    for (const bool causal : {false, true}) {
      add({.queries = length, .keys = length, .causal = causal});
    }
  }
  for (const bool causal : {false, true}) {
    add({.queries = 1, .keys = 150, .causal = causal});
    add({.queries = 70, .keys = 150, .causal = causal, .dropout = Dropout(0.3)});
    add({.batch = 2, .queries = 90, .keys = 90, .causal = causal}, 20);
  }
  for (const SbmStraightThrough estimate :
       {SbmStraightThrough::kMask, SbmStraightThrough::kLogit}) {
    for (const SbmSampler sampler : {SbmSampler::kPoisson, SbmSampler::kPoissonCopies}) {
      for (const double dropout : {0.0, 0.25}) {
        add({.batch = 2,
             .queries = 70,
             .keys = 140,
             .sampler = sampler,
             .dropout = Dropout(dropout),
             .straight_through = estimate,
             .clip = 0.02,
             .density_gradient = 30.0},
            3);
      }
    }
  }
  return problems;
}

TEST(SbmReferenceTest, EqualsTheDefinition) {
  for (const SbmInputs& in : Problems()) {
    const SbmResults got = RunSbm(DeviceRun::Reference(), in);
    ForEachSbmResult(
        [&](const char* what, const Values& g, const Values& want) {
          EXPECT_LE(MaxDifference(g, want), 1e-12) << what << " " << in.Name();
        },
        got, PlainSbm<double>::Run(in, MaskOf(in, got)));
  }
}

// Gradients of logits are differences of d_o . v, of size one here; d_k takes them times q. Those
// of memberships are sums over a row or a column of clipped values.
double SizeOfTerms(const SbmInputs& in, absl::string_view what) {
  if (what == "d_k") return MaxMagnitude(in.q);
  if (what == "d_affinity") return 20.0;
  return 1.0;
}

void ExpectAsExactAsPlainSbm(const SbmInputs& in, const SbmResults& graph) {
  const SbmResults got = RunSbm(DeviceRun::Cpu(), in, &graph);
  const SbmResults exact = RunSbm(DeviceRun::Reference(), in, &graph);
  ForEachSbmResult(
      [&](const char* what, const Values& g, const Values& p, const Values& e) {
        if (absl::string_view(what) == "lse") return;
        ExpectAsExactAsPlain(g, p, e, absl::StrCat(what, " ", in.Name()), SizeOfTerms(in, what));
      },
      got, PlainSbm<float>::Run(in, MaskOf(in, graph)), exact);
  for (size_t i = 0; i < exact.lse.size(); ++i) {  // rows without edges: -infinity on both sides
    if (std::isinf(exact.lse[i])) {
      EXPECT_EQ(got.lse[i], kMinusInfinity);
    } else {
      EXPECT_NEAR(got.lse[i], exact.lse[i], 1e-6 * (1.0 + std::abs(exact.lse[i]))) << in.Name();
    }
  }
}

TEST(SbmCpuTest, EqualsTheReference) {
  for (const SbmInputs& in : Problems()) {
    ExpectAsExactAsPlainSbm(in, SampleSbm(DeviceRun::Cpu(), in));
  }
}

TEST(SbmCpuTest, HeadsAndClustersOfEverySizeEqualTheReference) {
  for (const int64_t head_dim : {1, 7, 60, 128}) {
    for (const int64_t clusters : {1, 19}) {
      for (const double dense_above : {0.0, 2.0}) {
        const SbmInputs in = RandomSbm({.queries = 70,
                                        .keys = 70,
                                        .heads = 3,
                                        .head_dim = head_dim,
                                        .clusters = clusters,
                                        .dense_above = dense_above});
        ExpectAsExactAsPlainSbm(in, SampleSbm(DeviceRun::Cpu(), in));
      }
    }
  }
}

// Rows without edges, with one, with all; a block without edges; no edge at all.
TEST(SbmCpuTest, OddGraphsEqualTheReference) {
  for (const double dense_above : {0.0, 2.0}) {
    for (const int edges : {0, 1, 2}) {
      SbmInputs in = RandomSbm({.queries = 300,
                                .keys = 300,
                                .head_dim = 8,
                                .clusters = 3,
                                .dropout = Dropout(edges == 2 ? 0.5 : 0.0),
                                .density_gradient = 1.0,
                                .dense_above = dense_above});
      Mask mask(300 * 300, 0);
      for (int64_t j = 0; j < 300 && edges > 0; ++j) mask[7 * 300 + j] = 1;
      for (int64_t i = 20; i < 200 && edges > 1; ++i) mask[i * 300 + i * 7 % 130] = 1;
      ExpectAsExactAsPlainSbm(in, GraphOf(in, mask));
      if (edges == 0) {
        const SbmResults graph = GraphOf(in, mask);
        const SbmResults none = RunSbm(DeviceRun::Cpu(), in, &graph);
        ForEachSbmResult(
            [&](absl::string_view what, const Values& got) {
              const double want = what == "lse" ? kMinusInfinity : 0.0;
              EXPECT_EQ(got, Values(got.size(), want)) << what;
            },
            none);
      }
    }
  }
}

TEST(SbmCpuTest, LargeLogitsNeitherOverflowNorVanish) {
  for (const double dense_above : {0.0, 2.0}) {
    SbmInputs in = RandomSbm({.queries = 150,
                              .keys = 150,
                              .head_dim = 8,
                              .clusters = 3,
                              .straight_through = SbmStraightThrough::kLogit,
                              .dense_above = dense_above});
    for (double& q : in.q) q *= 60.0;
    const SbmResults graph = SampleSbm(DeviceRun::Cpu(), in);
    const SbmResults got = RunSbm(DeviceRun::Cpu(), in, &graph);
    const SbmResults exact = RunSbm(DeviceRun::Reference(), in, &graph);
    // Logits of about 300 have an absolute error of 2e-5 in fp32.
    EXPECT_LE(MaxDifference(got.o, exact.o), 1e-4);
    EXPECT_LE(MaxDifference(got.d_v, exact.d_v), 1e-4 * MaxMagnitude(exact.d_v));
    EXPECT_LE(MaxDifference(got.d_query, exact.d_query), 1e-3);
  }
}

// ---- Both devices

class SbmIdentityTest : public ::testing::TestWithParam<bool> {
 protected:
  static DeviceRun Device() { return GetParam() ? DeviceRun::Cpu() : DeviceRun::Reference(); }
  static SbmResults Run(const SbmInputs& in, const SbmResults* graph = nullptr) {
    return RunSbm(Device(), in, graph);
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, SbmIdentityTest, ::testing::Values(true, false),
                         [](const auto& tested) { return tested.param ? "cpu" : "reference"; });

TEST_P(SbmIdentityTest, AFullGraphIsSoftmaxAttention) {
  for (const bool causal : {false, true}) {
    SbmInputs in = RandomSbm({.batch = 2,
                              .queries = 90,
                              .keys = 90,
                              .heads = 2,
                              .head_dim = 8,
                              .clusters = 3,
                              .causal = causal,
                              .sampler = SbmSampler::kDense,
                              .exploration = 0.5},
                             1, /*lowest=*/1.0);
    const SbmResults got = Run(in);
    EXPECT_EQ(got.density, Values(4, 1.0));
    const SoftmaxProblem problem{.batch = 2,
                                 .queries = 90,
                                 .keys = 90,
                                 .heads = 2,
                                 .kv_heads = 2,
                                 .head_dim = 8,
                                 .scale = in.problem.scale,
                                 .causal = causal};
    DeviceRun run = Device();
    const Tensor q = run.Upload(in.q, in.QueryShape());
    const Tensor k = run.Upload(in.k, in.KeyShape());
    const Tensor v = run.Upload(in.v, in.KeyShape());
    Tensor o = run.New(in.QueryShape());
    Tensor lse = run.NewSum(in.LseShape());
    const absl::Status status = SoftmaxForward(run.stream(), problem, q, k, v, Tensor(), o, lse);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_LE(MaxDifference(got.o, run.Download(o)), 2e-6);
    EXPECT_LE(MaxDifference(got.lse, run.Download(lse)), 1e-5);
  }
}

TEST_P(SbmIdentityTest, TwoCopiesAreAsIfLn2WereAddedToTheLogit) {
  SbmProblem problem{.queries = 1,
                     .keys = 40,
                     .head_dim = 4,
                     .clusters = 2,
                     .sampler = SbmSampler::kPoissonCopies};
  const SbmInputs in = RandomSbm(problem);
  Mask mask(40, 1);
  mask[17] = 2;
  const SbmResults twice = GraphOf(in, mask);
  // One query: the logit of key 17 grows with the key along q.
  SbmInputs moved = in;
  double square = 0.0;
  for (int64_t d = 0; d < 4; ++d) square += in.q[d] * in.q[d];
  for (int64_t d = 0; d < 4; ++d) {
    moved.k[17 * 4 + d] += std::log(2.0) / (in.problem.scale * square) * in.q[d];
  }
  mask[17] = 1;
  const SbmResults once = GraphOf(in, mask);
  EXPECT_LE(MaxDifference(Run(in, &twice).o, Run(moved, &once).o), 1e-6);
  EXPECT_LE(MaxDifference(Run(in, &twice).d_v, Run(moved, &once).d_v), 1e-6);
  EXPECT_GT(MaxDifference(Run(in, &once).o, Run(in, &twice).o), 1e-3);
}

TEST_P(SbmIdentityTest, GradientsOfLogitsCancelInARow) {
  // A row's gradients of logits add up to zero, so one edge alone passes nothing to memberships.
  SbmInputs in = RandomSbm({.queries = 30, .keys = 30, .head_dim = 4, .clusters = 3});
  Mask mask(900, 0);
  for (int64_t i = 0; i < 30; ++i) mask[i * 30 + i * 11 % 30] = 1;
  const SbmResults graph = GraphOf(in, mask);
  const SbmResults r = Run(in, &graph);
  for (const Values* values : {&r.d_q, &r.d_k, &r.d_query, &r.d_key, &r.d_affinity}) {
    EXPECT_LE(MaxMagnitude(*values), 1e-6);
  }
  EXPECT_GT(MaxMagnitude(r.d_v), 0.5);
}

TEST_P(SbmIdentityTest, NoGradientOfAProbabilityExceedsTheClip) {
  // With y = 1, z = unit vectors and S = one full row, d_query is the gradient of p itself.
  SbmInputs in =
      RandomSbm({.queries = 20, .keys = 20, .head_dim = 4, .clusters = 20, .clip = 0.01});
  for (int64_t j = 0; j < 20; ++j) {
    for (int64_t v = 0; v < 20; ++v) {
      in.key[j * 20 + v] = j == v ? 1.0 : 0.0;
      in.affinity[j * 20 + v] = j == v ? 1.0 : 0.0;
    }
  }
  for (double& d_o : in.d_o) d_o *= 10.0;
  Mask mask(400, 0);
  for (int64_t n = 0; n < 400; ++n) mask[n] = n % 3 == 0 ? 1 : 0;
  const SbmResults graph = GraphOf(in, mask);
  const Values gamma = Run(in, &graph).d_query;  // [query, key]
  int clipped = 0;
  for (int64_t n = 0; n < 400; ++n) {
    EXPECT_LE(std::abs(gamma[n]), 0.01 + 1e-9);
    if (std::abs(gamma[n]) > 0.01 - 1e-6) ++clipped;
    EXPECT_EQ(gamma[n] != 0.0, mask[n] != 0);
  }
  EXPECT_GT(clipped, 50);
  in.problem.clip = HUGE_VAL;
  EXPECT_GT(MaxMagnitude(Run(in, &graph).d_query), 0.5);
}

TEST_P(SbmIdentityTest, ALaterTokenChangesNoEarlierBit) {
  SbmInputs in = RandomSbm({.queries = 200,
                            .keys = 200,
                            .heads = 2,
                            .head_dim = 4,
                            .clusters = 3,
                            .causal = true,
                            .dropout = Dropout(0.2)});
  const Values before = Run(in).o;
  for (const int64_t t : {1, 64, 128, 199}) {
    SbmInputs changed = in;
    for (Values* values : {&changed.q, &changed.k, &changed.v}) {
      for (int64_t i = 0; i < 8; ++i) (*values)[t * 8 + i] = 5.0 - (*values)[t * 8 + i];
    }
    for (Values* values : {&changed.query, &changed.key}) {
      for (int64_t h = 0; h < 2; ++h) {
        for (int64_t c = 0; c < 3; ++c) (*values)[(h * 200 + t) * 3 + c] = 0.97;
      }
    }
    const Values after = Run(changed).o;
    EXPECT_TRUE(std::equal(before.begin(), before.begin() + t * 8, after.begin())) << t;
    EXPECT_FALSE(std::equal(before.begin() + t * 8, before.end(), after.begin() + t * 8)) << t;
  }
}

TEST_P(SbmIdentityTest, OneQueryAtATimeEqualsTheWholeSequence) {
  const SbmInputs in =
      RandomSbm({.queries = 140, .keys = 140, .head_dim = 4, .clusters = 3, .causal = true});
  const Values whole = Run(in).o;
  for (const int64_t t : {0, 1, 63, 64, 139}) {
    SbmInputs step = in;
    step.problem.queries = 1;
    step.problem.keys = t + 1;
    step.q = Values(in.q.begin() + t * 4, in.q.begin() + (t + 1) * 4);
    step.d_o = step.q;
    step.query = Values(in.query.begin() + t * 3, in.query.begin() + (t + 1) * 3);
    for (Values* values : {&step.k, &step.v}) values->resize((t + 1) * 4);
    step.key.resize((t + 1) * 3);
    EXPECT_LE(MaxDifference(Run(step).o, Values(whole.begin() + t * 4, whole.begin() + t * 4 + 4)),
              1e-6)
        << t;
  }
}

TEST_P(SbmIdentityTest, DropoutKeepsTheMean) {
  SbmInputs in = RandomSbm({.queries = 200, .keys = 200, .head_dim = 4, .clusters = 3});
  // Values of one: the output of a query is the sum of the weights that dropout leaves.
  std::fill(in.v.begin(), in.v.end(), 1.0);
  for (double& q : in.q) q = 0.0;
  in.problem.dropout = Dropout(0.4);
  const SbmResults graph = SampleSbm(DeviceRun::Cpu(), in);
  const Values dropped = Run(in, &graph).o;
  double mean = 0.0;
  for (const double o : dropped) mean += o / static_cast<double>(dropped.size());
  // About 40 equal weights a query, 200 queries.
  EXPECT_NEAR(mean, 1.0, 5 * std::sqrt(0.4 / 0.6 / 40 / 200));
  EXPECT_GT(MaxMagnitude(dropped), 1.1);
  in.problem.dropout.probability = 0.0;
  EXPECT_LE(MaxDifference(Run(in, &graph).o, Values(dropped.size(), 1.0)), 1e-6);
}

TEST(SbmCpuTest, ListsAndMasksAgree) {
  SbmInputs in = RandomSbm({.queries = 333,
                            .keys = 333,
                            .heads = 2,
                            .head_dim = 20,
                            .clusters = 9,
                            .causal = true,
                            .dropout = Dropout(0.1),
                            .dense_above = 0.0});
  const SbmResults graph = SampleSbm(DeviceRun::Cpu(), in);
  const SbmResults masks = RunSbm(DeviceRun::Cpu(), in, &graph);
  in.problem.dense_above = 2.0;
  const SbmResults lists = RunSbm(DeviceRun::Cpu(), in, &graph);
  ForEachSbmResult(
      [&](const char* what, const Values& a, const Values& b) {
        EXPECT_LE(MaxDifference(a, b), 1e-5 * std::max(1.0, MaxMagnitude(a))) << what;
      },
      masks, lists);
}

TEST(SbmCpuTest, BitsDependOnNeitherThreadsNorTheRun) {
  for (const double dense_above : {0.0, 0.15, 2.0}) {
    const SbmInputs in = RandomSbm({.batch = 2,
                                    .queries = 300,
                                    .keys = 300,
                                    .heads = 3,
                                    .head_dim = 20,
                                    .clusters = 70,
                                    .dropout = Dropout(0.1),
                                    .dense_above = dense_above});
    const SbmResults once = RunSbm(DeviceRun::Cpu(1), in);
    for (const int threads : {1, 2, 3}) {
      ForEachSbmResult(
          [&](const char* what, const Values& got, const Values& want) {
            EXPECT_EQ(got, want) << what << " with " << threads << " threads";
          },
          RunSbm(DeviceRun::Cpu(threads), in), once);
    }
  }
}

}  // namespace
}  // namespace weft::kernels::testing
