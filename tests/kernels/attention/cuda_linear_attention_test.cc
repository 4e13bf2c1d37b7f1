// Linear attention on a GPU against the fp64 recurrence, in fp32 and in bf16, and against itself.
#include <gtest/gtest.h>

#include "tests/kernels/attention/linear_attention_testing.h"
#include "tests/testing/gpu.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

// What the device will see, for the reference as well.
LinearAttentionCase AsSeenBy(DType dtype, LinearAttentionCase in) {
  if (dtype != DType::kBf16) return in;
  for (Values* values : {&in.q, &in.k, &in.v, &in.projection, &in.d_o}) {
    for (double& value : *values) value = FloatFromBf16(Bf16From(static_cast<float>(value)));
  }
  return in;
}

double TermsOf(absl::string_view what, const LinearAttentionResults& plain) {
  if (what == "d_q") return plain.terms_q;
  if (what == "d_k") return plain.terms_k;
  if (what == "d_s0") return plain.terms_s0;
  return 0.0;
}

// In fp32 three times as wrong as the plain loops, which add in another order, and 8 ulp. In bf16,
// where features and weights are rounded between products, 1e-2 of the root mean square of a
// result, or of a tenth of the terms that cancel in it.
class CudaLinearAttentionTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    WEFT_CUDA_OR_SKIP(probe, GetParam());
    run_.emplace(DeviceRun::Cuda(NewCudaDevice({.compute = GetParam()}).value()));
  }

  void ExpectGood(const LinearAttentionCase& made) {
    const LinearAttentionCase in = AsSeenBy(GetParam(), made);
    const LinearAttentionResults exact = RunLinearAttention(DeviceRun::Reference(), in);
    const LinearAttentionResults plain = PlainLinearAttention<float>::Run(in);
    ForEachLinearAttentionResult(
        [&](absl::string_view what, const Values& got, const Values& rival, const Values& want) {
          const double terms = TermsOf(what, plain);
          if (GetParam() == DType::kBf16) {
            EXPECT_LE(RootMeanSquareDifference(got, want),
                      1e-2 * std::max(RootMeanSquare(want), 0.1 * terms))
                << what << " " << in.Name();
          } else {
            const double ulp = std::ldexp(std::max(terms, MaxMagnitude(want)), -23);
            EXPECT_LE(MaxDifference(got, want), 3.0 * MaxDifference(rival, want) + 8.0 * ulp)
                << what << " " << in.Name();
          }
        },
        RunLinearAttention(*run_, in), plain, exact);
  }

  // For sequences that are too long for the plain loops.
  void ExpectNear(const LinearAttentionCase& made, double share) {
    const LinearAttentionCase in = AsSeenBy(GetParam(), made);
    ForEachLinearAttentionResult(
        [&](absl::string_view what, const Values& got, const Values& want) {
          EXPECT_LE(RootMeanSquareDifference(got, want), share * RootMeanSquare(want))
              << what << " " << in.Name();
        },
        RunLinearAttention(*run_, in), RunLinearAttention(DeviceRun::Reference(), in));
  }

  [[nodiscard]] double Share() const { return GetParam() == DType::kBf16 ? 1e-2 : 4e-6; }

  std::optional<DeviceRun> run_;
};

TEST_P(CudaLinearAttentionTest, EveryFeatureMapEqualsTheReference) {
  for (const FeatureMap& features : AllFeatureMaps(/*rows=*/21)) {
    for (const bool causal : {true, false}) {
      const LinearAttentionCase in = RandomLinearAttention({.batch = 2,
                                                            .tokens = 150,
                                                            .heads = 3,
                                                            .key_dim = 9,
                                                            .value_dim = 7,
                                                            .features = features,
                                                            .causal = causal},
                                                           /*with_states=*/causal);
      ExpectGood(in);
      ExpectGood(Padded(in, 20));
    }
  }
}

TEST_P(CudaLinearAttentionTest, SequencesOfEveryLengthEqualTheRecurrence) {
  for (const int64_t tokens : {1, 2, 63, 64, 65, 255, 256, 257, 600}) {
    for (const FeatureMap& features : {AllFeatureMaps(12)[0], AllFeatureMaps(12)[7]}) {
      ExpectGood(RandomLinearAttention(
          {.tokens = tokens, .heads = 2, .key_dim = 8, .value_dim = 12, .features = features},
          /*with_states=*/tokens % 2 == 1));
    }
  }
}

TEST_P(CudaLinearAttentionTest, HeadsOfEverySizeEqualTheRecurrence) {
  for (const int64_t key_dim : {1, 60, 64, 130}) {
    for (const int64_t value_dim : {1, 64, 130}) {
      ExpectGood(RandomLinearAttention({.tokens = 70, .key_dim = key_dim, .value_dim = value_dim},
                                       /*with_states=*/true));
    }
  }
}

// What models have: every function without a projection, 64 and 128 wide.
TEST_P(CudaLinearAttentionTest, TheUsualWidthsEqualTheRecurrence) {
  for (const int64_t width : {64, 128}) {
    for (int map = 0; map < 4; ++map) {
      for (const int64_t tokens : {1, 64, 200}) {
        const LinearAttentionCase in = RandomLinearAttention({.batch = 2,
                                                              .tokens = tokens,
                                                              .heads = 2,
                                                              .key_dim = width,
                                                              .value_dim = width,
                                                              .features = AllFeatureMaps(1)[map]},
                                                             /*with_states=*/true);
        ExpectGood(in);
        if (tokens == 200) ExpectGood(Padded(in, 70));
      }
    }
  }
}

// The Performer's, of as many rows as it has by default.
FeatureMap RandomFeatures(int64_t key_dim, double floor = 1e-6) {
  return {.feature = Feature::kExponential,
          .rows = 256,
          .scale = std::pow(static_cast<double>(key_dim), -0.25),
          .floor = floor};
}

TEST_P(CudaLinearAttentionTest, RandomFeaturesOfTheUsualWidthsEqualTheRecurrence) {
  for (const int64_t key_dim : {64, 128}) {
    for (const int64_t value_dim : {64, 128}) {
      for (const int64_t tokens : {1, 64, 150}) {
        const LinearAttentionCase in =
            RandomLinearAttention({.batch = 2,
                                   .tokens = tokens,
                                   .heads = 2,
                                   .key_dim = key_dim,
                                   .value_dim = value_dim,
                                   .features = RandomFeatures(key_dim, 1e-2),
                                   .guard = DenominatorGuard::kLiftSmall,
                                   .guard_epsilon = 1e-4},
                                  /*with_states=*/tokens != 64);
        ExpectGood(in);
        if (tokens == 150 && key_dim == value_dim) ExpectGood(Padded(in, 70));
      }
    }
  }
}

TEST_P(CudaLinearAttentionTest, RandomFeaturesOfLongSequencesEqualTheRecurrence) {
  for (const int64_t width : {64, 128}) {
    ExpectNear(Padded(RandomLinearAttention({.tokens = 1500,
                                             .heads = 2,
                                             .key_dim = width,
                                             .value_dim = width,
                                             .features = RandomFeatures(width)},
                                            /*with_states=*/true),
                      30),
               GetParam() == DType::kBf16 ? 1e-2 : 1e-5);
  }
}

TEST_P(CudaLinearAttentionTest, LongSequencesEqualTheRecurrence) {
  for (const int64_t width : {32, 64, 128}) {
    for (const int64_t tokens : {2048, 5000}) {
      ExpectNear(RandomLinearAttention(
                     {.tokens = tokens, .heads = 2, .key_dim = width, .value_dim = width},
                     /*with_states=*/true),
                 Share());
    }
  }
}

// Keys and queries that the exponential of an fp32 cannot hold, the largest key in the middle.
TEST_P(CudaLinearAttentionTest, LargeKeysNeitherOverflowNorVanish) {
  struct Case {
    int64_t key_dim, value_dim, rows;
    bool causal;
  };
  for (const Case& c : {Case{16, 8, 32, true}, Case{16, 8, 32, false}, Case{64, 64, 256, true}}) {
    LinearAttentionCase in = RandomLinearAttention(
        {.tokens = 400,
         .heads = 2,
         .key_dim = c.key_dim,
         .value_dim = c.value_dim,
         .features = {.feature = Feature::kExponential, .rows = c.rows, .scale = 0.5},
         .causal = c.causal,
         .guard_epsilon = 0.0},
        /*with_states=*/false);
    for (double& q : in.q) q *= 3.0;
    for (int64_t t : {3, 90, 91, 150}) {
      for (int64_t i = 0; i < 2 * c.key_dim; ++i) {
        in.k[t * 2 * c.key_dim + i] *= t == 90 ? 8.0 : 4.0;
      }
    }
    in = AsSeenBy(GetParam(), in);
    const double share = GetParam() == DType::kBf16 ? 2e-2 : 3e-4;
    ForEachLinearAttentionResult(
        [&](absl::string_view what, const Values& got, const Values& want) {
          if (what == "s" || what == "d_s0") return;
          EXPECT_LE(MaxDifference(got, want), share * MaxMagnitude(want)) << what << in.Name();
        },
        RunLinearAttention(*run_, in), RunLinearAttention(DeviceRun::Reference(), in));
  }
}

TEST_P(CudaLinearAttentionTest, BitsAreTheSameAgain) {
  for (const int64_t width : {24, 64, 128}) {
    for (const FeatureMap& features : {FeatureMap(), RandomFeatures(width)}) {
      for (const bool causal : {true, false}) {
        const LinearAttentionCase in =
            AsSeenBy(GetParam(), Padded(RandomLinearAttention({.batch = 2,
                                                               .tokens = 1500,
                                                               .heads = 5,
                                                               .key_dim = width,
                                                               .value_dim = width,
                                                               .features = features,
                                                               .causal = causal},
                                                              /*with_states=*/causal),
                                        30));
        ForEachLinearAttentionResult([&](const char* what, const Values& got,
                                         const Values& want) { EXPECT_TRUE(got == want) << what; },
                                     RunLinearAttention(*run_, in), RunLinearAttention(*run_, in));
      }
    }
  }
}

// In training nobody asks for states, and less is computed.
TEST_P(CudaLinearAttentionTest, StatesThatNobodyWantsChangeNothing) {
  struct Case {
    int64_t heads;  // 2: in several segments, 160: in one
    FeatureMap features;
  };
  for (const Case& c :
       {Case{2, {}}, Case{160, {}}, Case{2, RandomFeatures(64)}, Case{160, RandomFeatures(64)}}) {
    const LinearAttentionCase in =
        AsSeenBy(GetParam(), RandomLinearAttention({.tokens = 1100,
                                                    .heads = c.heads,
                                                    .key_dim = 64,
                                                    .value_dim = 64,
                                                    .features = c.features},
                                                   /*with_states=*/false));
    const LinearAttentionResults want = RunLinearAttention(*run_, in);
    const LinearAttentionInputs inputs{
        .q = run_->Upload(in.q, in.KeyShape()),
        .k = run_->Upload(in.k, in.KeyShape()),
        .v = run_->Upload(in.v, in.ValueShape()),
        .projection = in.projection.empty() ? Tensor() : run_->Upload(in.projection, {256, 64}),
        .valid = {}};
    Tensor o = run_->New(in.ValueShape()), d_q = run_->New(in.KeyShape()),
           d_k = run_->New(in.KeyShape()), d_v = run_->New(in.ValueShape()), absent;
    ASSERT_OK_AND_ASSIGN(LinearAttentionSaved saved,
                         NewLinearAttentionSaved(run_->device(), in.problem));
    ASSERT_OK(LinearAttentionForward(run_->stream(), in.problem, inputs, absent, o, absent, saved));
    ASSERT_OK(LinearAttentionBackward(run_->stream(), in.problem, inputs, o, saved,
                                      run_->Upload(in.d_o, in.ValueShape()), absent, d_q, d_k, d_v,
                                      absent));
    EXPECT_TRUE(run_->Download(o) == want.o);
    EXPECT_TRUE(run_->Download(d_q) == want.d_q);
    EXPECT_TRUE(run_->Download(d_k) == want.d_k);
    EXPECT_TRUE(run_->Download(d_v) == want.d_v);
  }
}

TEST_P(CudaLinearAttentionTest, DecodingTokenByTokenInPlaceEqualsTheWholeSequence) {
  for (const FeatureMap& features : AllFeatureMaps(24)) {
    const LinearAttentionCase in = AsSeenBy(
        GetParam(),
        RandomLinearAttention(
            {.tokens = 40, .heads = 2, .key_dim = 16, .value_dim = 8, .features = features},
            /*with_states=*/false));
    const LinearAttentionResults exact = RunLinearAttention(DeviceRun::Reference(), in);
    LinearAttentionProblem step = in.problem;
    step.tokens = 1;
    Tensor state = run_->NewSum(in.StateShape());  // zeros: no token was seen
    Tensor o = run_->New({1, 1, 2, 8});
    const Tensor projection =
        in.projection.empty() ? Tensor() : run_->Upload(in.projection, {24, 16});
    const auto row = [&](const Values& values, int64_t t, int64_t width) {
      return run_->Upload(
          Values(values.begin() + t * 2 * width, values.begin() + (t + 1) * 2 * width),
          {1, 1, 2, width});
    };
    LinearAttentionSaved none;
    Values got;
    for (int64_t t = 0; t < 40; ++t) {
      ASSERT_OK(LinearAttentionForward(run_->stream(), step,
                                       {.q = row(in.q, t, 16),
                                        .k = row(in.k, t, 16),
                                        .v = row(in.v, t, 8),
                                        .projection = projection,
                                        .valid = {}},
                                       state, o, state, none));
      for (const double value : run_->Download(o)) got.push_back(value);
    }
    EXPECT_LE(RootMeanSquareDifference(got, exact.o), Share() * RootMeanSquare(exact.o))
        << in.Name();
    EXPECT_LE(RootMeanSquareDifference(run_->Download(state), exact.s),
              Share() * RootMeanSquare(exact.s))
        << in.Name();
  }
}

TEST_P(CudaLinearAttentionTest, UndoneTokensLeaveTheStateOfBefore) {
  for (const int64_t width : {24, 64}) {
    for (const FeatureMap& features : {AllFeatureMaps(24)[0], AllFeatureMaps(24)[4]}) {
      const LinearAttentionCase in =
          AsSeenBy(GetParam(), Padded(RandomLinearAttention({.tokens = 700,
                                                             .heads = 2,
                                                             .key_dim = width,
                                                             .value_dim = width,
                                                             .features = features},
                                                            /*with_states=*/true),
                                      9));
      const LinearAttentionInputs inputs{
          .q = run_->Upload(in.q, in.KeyShape()),
          .k = run_->Upload(in.k, in.KeyShape()),
          .v = run_->Upload(in.v, in.ValueShape()),
          .projection = in.projection.empty() ? Tensor() : run_->Upload(in.projection, {24, width}),
          .valid = run_->UploadIntegers(in.valid, {1, 700})};
      Tensor state = run_->UploadSum(in.s0, in.StateShape());
      Tensor o = run_->New(in.ValueShape());
      LinearAttentionSaved none;
      ASSERT_OK(LinearAttentionForward(run_->stream(), in.problem, inputs, state, o, state, none));
      const Values after = run_->Download(state);
      ASSERT_OK(LinearAttentionUndo(run_->stream(), in.problem, inputs, state));
      EXPECT_LE(MaxDifference(run_->Download(state), in.s0), 2e-6 * MaxMagnitude(after));
    }
  }
}

TEST_P(CudaLinearAttentionTest, NoTokensPassTheStateThrough) {
  for (const FeatureMap& features : {AllFeatureMaps(24)[0], AllFeatureMaps(24)[7]}) {
    const LinearAttentionCase in = RandomLinearAttention(
        {.tokens = 0, .heads = 2, .key_dim = 64, .value_dim = 64, .features = features},
        /*with_states=*/true);
    const LinearAttentionResults got = RunLinearAttention(*run_, in);
    EXPECT_EQ(got.s, in.s0);
    EXPECT_EQ(got.d_s0, in.d_s);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaLinearAttentionTest,
                         ::testing::Values(DType::kF32, DType::kBf16),
                         [](const ::testing::TestParamInfo<DType>& tested) {
                           return std::string(NameOf(tested.param));
                         });

}  // namespace
}  // namespace weft::kernels::testing
