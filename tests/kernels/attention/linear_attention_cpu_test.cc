// Chunked fp32 linear attention against the fp64 recurrence, and what it promises about bits.
#include <gtest/gtest.h>

#include "tests/kernels/attention/linear_attention_testing.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

using ::testing::HasSubstr;
using weft::testing::StatusIs;

void ExpectAsExactAsPlainLinearAttention(const LinearAttentionCase& in) {
  const LinearAttentionResults plain = PlainLinearAttention<float>::Run(in);
  const LinearAttentionResults exact = RunLinearAttention(DeviceRun::Reference(), in);
  ForEachLinearAttentionResult(
      [&](absl::string_view what, const Values& got, const Values& rival, const Values& want) {
        double terms = 0.0;
        if (what == "d_q") terms = plain.terms_q;
        if (what == "d_k") terms = plain.terms_k;
        if (what == "d_s0") terms = plain.terms_s0;
        ExpectAsExactAsPlain(got, rival, want, absl::StrCat(what, " ", in.Name()), terms);
      },
      RunLinearAttention(DeviceRun::Cpu(), in), plain, exact);
}

TEST(LinearAttentionCpuTest, ThePlainLoopsEqualTheReference) {
  for (const FeatureMap& features : AllFeatureMaps(/*rows=*/6)) {
    for (const bool causal : {true, false}) {
      const LinearAttentionCase in = Padded(RandomLinearAttention({.batch = 2,
                                                                   .tokens = 9,
                                                                   .heads = 2,
                                                                   .key_dim = 3,
                                                                   .value_dim = 2,
                                                                   .features = features,
                                                                   .causal = causal},
                                                                  /*with_states=*/causal),
                                            3);
      ForEachLinearAttentionResult(
          [&](const char* what, const Values& got, const Values& want) {
            EXPECT_LE(MaxDifference(got, want), 1e-12 * (1.0 + MaxMagnitude(want)))
                << what << " " << in.Name();
          },
          PlainLinearAttention<double>::Run(in), RunLinearAttention(DeviceRun::Reference(), in));
    }
  }
}

// Two heads are split into segments, ten are not.
TEST(LinearAttentionCpuTest, ChunksOfEverySizeEqualTheRecurrence) {
  for (const int64_t chunk : {1, 7, 16, 64}) {
    for (const int64_t tokens : {1, 15, 16, 17, 150}) {
      for (const int64_t heads : {2, 10}) {
        for (const FeatureMap& features : {AllFeatureMaps(12)[0], AllFeatureMaps(12)[7]}) {
          ExpectAsExactAsPlainLinearAttention(RandomLinearAttention({.tokens = tokens,
                                                                     .heads = heads,
                                                                     .key_dim = 8,
                                                                     .value_dim = 12,
                                                                     .features = features,
                                                                     .chunk = chunk},
                                                                    /*with_states=*/heads == 2));
        }
      }
    }
  }
}

TEST(LinearAttentionCpuTest, EveryFeatureMapEqualsTheReference) {
  for (const FeatureMap& features : AllFeatureMaps(/*rows=*/21)) {
    for (const bool causal : {true, false}) {
      for (const int64_t heads : {2, 5}) {
        const LinearAttentionCase in = RandomLinearAttention({.batch = 2,
                                                              .tokens = 70,
                                                              .heads = heads,
                                                              .key_dim = 9,
                                                              .value_dim = 7,
                                                              .features = features,
                                                              .causal = causal,
                                                              .chunk = 16},
                                                             /*with_states=*/causal);
        ExpectAsExactAsPlainLinearAttention(in);
        ExpectAsExactAsPlainLinearAttention(Padded(in, 20));
      }
    }
  }
}

TEST(LinearAttentionCpuTest, HeadsOfEverySizeEqualTheRecurrence) {
  for (const int64_t key_dim : {1, 7, 60, 128}) {
    for (const int64_t value_dim : {1, 60, 128}) {
      // The library adds the terms of a product with one column to the state one by one, each with
      // a rounding of its own, so few of them.
      const int64_t tokens = value_dim == 1 ? 20 : 70;
      ExpectAsExactAsPlainLinearAttention(RandomLinearAttention(
          {.tokens = tokens, .key_dim = key_dim, .value_dim = value_dim}, /*with_states=*/true));
    }
  }
}

// Keys and queries that the exponential of an fp32 cannot hold: the products of their features
// reach from exp(-600) to exp(300), and the largest key comes in the middle.
LinearAttentionCase WithLargeKeys(bool causal) {
  LinearAttentionCase in = RandomLinearAttention(
      {.tokens = 200,
       .heads = 2,
       .key_dim = 16,
       .value_dim = 8,
       .features = {.feature = Feature::kExponential, .rows = 32, .scale = 0.5},
       .causal = causal,
       .guard_epsilon = 0.0,
       .chunk = 16},
      /*with_states=*/false);
  for (double& q : in.q) q *= 3.0;
  for (int64_t t : {3, 90, 91, 150}) {
    for (int64_t i = 0; i < 32; ++i) in.k[t * 32 + i] *= t == 90 ? 8.0 : 4.0;
  }
  return in;
}

TEST(LinearAttentionCpuTest, LargeKeysNeitherOverflowNorVanish) {
  for (const bool causal : {true, false}) {
    const LinearAttentionCase in = WithLargeKeys(causal);
    const LinearAttentionResults exact = RunLinearAttention(DeviceRun::Reference(), in);
    ForEachLinearAttentionResult(
        [&](const char* what, const Values& got, const Values& want) {
          if (absl::string_view(what) == "s" || absl::string_view(what) == "d_s0") return;
          // Logarithms of weights reach 300 here, with rounding errors of 2e-5 in fp32.
          EXPECT_LE(MaxDifference(got, want), 3e-4 * MaxMagnitude(want)) << what;
        },
        RunLinearAttention(DeviceRun::Cpu(), in), exact);
  }
}

TEST(LinearAttentionCpuTest, StaysExactOverSixtyFiveThousandTokens) {
  for (const int64_t heads : {1, 8}) {  // in segments side by side, and in turn
    const LinearAttentionCase in = RandomLinearAttention(
        {.tokens = 65536 / heads * 2, .heads = heads, .key_dim = 8, .value_dim = 8},
        /*with_states=*/true);
    ForEachLinearAttentionResult(
        [&](const char* what, const Values& got, const Values& want) {
          EXPECT_LE(RootMeanSquareDifference(got, want), 2e-6 * RootMeanSquare(want)) << what;
        },
        RunLinearAttention(DeviceRun::Cpu(), in), RunLinearAttention(DeviceRun::Reference(), in));
  }
}

TEST(LinearAttentionCpuTest, BitsDependOnNeitherThreadsNorTheRun) {
  for (const bool causal : {true, false}) {
    for (const int64_t heads : {3, 9}) {
      const LinearAttentionCase in =
          Padded(RandomLinearAttention({.tokens = 300,
                                        .heads = heads,
                                        .key_dim = 10,
                                        .value_dim = 12,
                                        .features = AllFeatureMaps(20)[7],
                                        .causal = causal,
                                        .chunk = 16},
                                       /*with_states=*/causal),
                 30);
      const LinearAttentionResults once = RunLinearAttention(DeviceRun::Cpu(1), in);
      for (const int threads : {1, 2, 3}) {
        ForEachLinearAttentionResult(
            [&](const char* what, const Values& got, const Values& want) {
              EXPECT_EQ(got, want) << what << " with " << threads << " threads";
            },
            RunLinearAttention(DeviceRun::Cpu(threads), in), once);
      }
    }
  }
}

TEST(LinearAttentionCpuTest, DecodingTokenByTokenInPlaceEqualsTheWholeSequence) {
  for (const FeatureMap& features : AllFeatureMaps(24)) {
    const LinearAttentionCase in = RandomLinearAttention(
        {.batch = 2, .tokens = 70, .heads = 2, .key_dim = 16, .value_dim = 8, .features = features},
        /*with_states=*/false);
    const LinearAttentionResults exact = RunLinearAttention(DeviceRun::Reference(), in);
    DeviceRun run = DeviceRun::Cpu();
    const auto row = [&](const Values& values, int64_t t, int64_t width) {
      Values picked;
      for (int64_t b = 0; b < 2; ++b) {
        const auto first = values.begin() + (b * 70 + t) * 2 * width;
        picked.insert(picked.end(), first, first + 2 * width);
      }
      return picked;
    };
    LinearAttentionProblem step = in.problem;
    step.tokens = 1;
    Tensor state = run.New(in.StateShape());  // zeros: no token was seen
    Tensor o = run.New({2, 1, 2, 8});
    const Tensor projection =
        in.projection.empty() ? Tensor() : run.Upload(in.projection, {24, 16});
    LinearAttentionSaved none;
    Values got;
    Values want;
    for (int64_t t = 0; t < 70; ++t) {
      ASSERT_OK(LinearAttentionForward(run.stream(), step,
                                       {.q = run.Upload(row(in.q, t, 16), {2, 1, 2, 16}),
                                        .k = run.Upload(row(in.k, t, 16), {2, 1, 2, 16}),
                                        .v = run.Upload(row(in.v, t, 8), {2, 1, 2, 8}),
                                        .projection = projection,
                                        .valid = {}},
                                       state, o, state, none));
      for (const double value : run.Download(o)) got.push_back(value);
      for (const double value : row(exact.o, t, 8)) want.push_back(value);
    }
    // 70 updates of sums; exponentials of levels of size ten.
    EXPECT_LE(MaxDifference(got, want), 4e-6) << in.Name();
    EXPECT_LE(MaxDifference(run.Download(state), exact.s), 4e-6 * MaxMagnitude(exact.s))
        << in.Name();
  }
}

TEST(LinearAttentionContractTest, RefusesMalformedProblems) {
  DeviceRun run = DeviceRun::Cpu();
  const LinearAttentionProblem good{.tokens = 3, .heads = 2, .key_dim = 4, .value_dim = 5};
  EXPECT_OK(Supports(run.device(), good));
  const auto refused = [&](auto change, const char* complaint) {
    LinearAttentionProblem bad = good;
    change(bad);
    EXPECT_THAT(Supports(run.device(), bad),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(complaint)));
  };
  refused([](LinearAttentionProblem& p) { p.tokens = -1; }, "tokens -1");
  refused([](LinearAttentionProblem& p) { p.value_dim = 0; }, "value_dim 0");
  refused([](LinearAttentionProblem& p) { p.chunk = 0; }, "chunk 0");
  refused([](LinearAttentionProblem& p) { p.chunk = 513; }, "chunk 513");
  refused([](LinearAttentionProblem& p) { p.guard_epsilon = -1.0; }, "guard_epsilon -1");
  refused([](LinearAttentionProblem& p) { p.features.rows = -2; }, "rows -2");
  refused([](LinearAttentionProblem& p) { p.features.scale = 0.0; }, "scale 0");
  refused([](LinearAttentionProblem& p) { p.features.floor = std::nan(""); }, "floor nan");
  refused([](LinearAttentionProblem& p) { p.features.both_signs = true; }, "both_signs");
  refused([](LinearAttentionProblem& p) { p.features.feature = Feature::kExponential; },
          "need a projection");
}

class LinearAttentionOperandsTest : public ::testing::Test {
 protected:
  absl::Status Forward() {
    return LinearAttentionForward(run_.stream(), problem_, inputs_, state_, o_, state_, saved_);
  }

  DeviceRun run_ = DeviceRun::Cpu();
  LinearAttentionProblem problem_{.tokens = 3, .heads = 2, .key_dim = 4, .value_dim = 5};
  LinearAttentionInputs inputs_{.q = run_.New({1, 3, 2, 4}),
                                .k = run_.New({1, 3, 2, 4}),
                                .v = run_.New({1, 3, 2, 5}),
                                .projection = {},
                                .valid = {}};
  Tensor o_ = run_.New({1, 3, 2, 5});
  Tensor state_ = run_.New({1, 2, 25});
  LinearAttentionSaved saved_ = {};
};

TEST_F(LinearAttentionOperandsTest, FitTheProblem) { EXPECT_OK(Forward()); }

TEST_F(LinearAttentionOperandsTest, AreNamedWhenTheyDoNotFit) {
  inputs_.v = inputs_.k;
  EXPECT_THAT(Forward(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("LinearAttentionForward: v is f32[1, 3, 2, 4], expected "
                                 "f32[1, 3, 2, 5]")));
}

TEST_F(LinearAttentionOperandsTest, MaskTokensWithIntegers) {
  inputs_.valid = run_.New({1, 3});
  EXPECT_THAT(Forward(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("valid is f32")));
  inputs_.valid = run_.UploadIntegers({1, 1, 0}, {1, 3});
  EXPECT_OK(Forward());
}

TEST_F(LinearAttentionOperandsTest, BringAProjectionExactlyWhenThereAreRows) {
  inputs_.projection = run_.New({6, 4});
  EXPECT_THAT(Forward(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("projection")));
  problem_.features.rows = 6;
  state_ = run_.New({1, 2, 37});
  EXPECT_OK(Forward());
  inputs_.projection = Tensor();
  EXPECT_THAT(Forward(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("projection is absent")));
}

TEST_F(LinearAttentionOperandsTest, HaveNoStatesWithoutAnOrder) {
  problem_.causal = false;
  EXPECT_THAT(Forward(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not causal")));
  state_ = Tensor();
  EXPECT_OK(Forward());
}

TEST_F(LinearAttentionOperandsTest, AreUndoneOnlyWhereNothingIsLost) {
  EXPECT_OK(LinearAttentionUndo(run_.stream(), problem_, inputs_, state_));
  problem_.features = {.feature = Feature::kExponential, .rows = 4};
  inputs_.projection = run_.New({4, 4});
  EXPECT_THAT(LinearAttentionUndo(run_.stream(), problem_, inputs_, state_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("cannot be undone")));
}

}  // namespace
}  // namespace weft::kernels::testing
