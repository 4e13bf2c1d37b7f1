// The delta rule on a GPU against the fp64 recurrence, in fp32 and in bf16, and against itself.
#include <gtest/gtest.h>

#include <optional>

#include "tests/kernels/attention/delta_testing.h"
#include "tests/testing/gpu.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

// What the device will see, for the reference as well.
DeltaInputs AsSeenBy(DType dtype, DeltaInputs in) {
  if (dtype != DType::kBf16) return in;
  for (Values* values : {&in.q, &in.k, &in.v, &in.d_o}) {
    for (double& value : *values) value = FloatFromBf16(Bf16From(static_cast<float>(value)));
  }
  return in;
}

// In fp32 the rule of the CPU, but sums are added in another order: hence three times the plain
// error and 8 ulp. In bf16, where errors and states are rounded between products, 1e-2 of the root
// mean square of a result; dbeta is a dot product whose terms cancel, so it is given twice that.
class CudaDeltaTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    WEFT_CUDA_OR_SKIP(probe, GetParam());
    run_.emplace(DeviceRun::Cuda(NewCudaDevice({.compute = GetParam()}).value()));
  }

  void ExpectGood(const DeltaInputs& made) {
    const DeltaInputs in = AsSeenBy(GetParam(), made);
    ForEachDeltaResult(
        [&](absl::string_view what, const Values& got, const Values& plain, const Values& want) {
          if (GetParam() == DType::kBf16) {
            EXPECT_LE(RootMeanSquareDifference(got, want),
                      (what == "d_beta" ? 2e-2 : 1e-2) * RootMeanSquare(want))
                << what << " " << in.Name();
          } else {
            EXPECT_LE(MaxDifference(got, want),
                      3.0 * MaxDifference(plain, want) + 8.0 * std::ldexp(MaxMagnitude(want), -23))
                << what << " " << in.Name();
          }
        },
        RunDelta(*run_, in), PlainDelta<float>::Run(in), RunDelta(DeviceRun::Reference(), in));
  }

  std::optional<DeviceRun> run_;
};

TEST_P(CudaDeltaTest, SequencesOfEveryLengthEqualTheRecurrence) {
  for (const int64_t tokens : {1, 2, 63, 64, 65, 200}) {
    for (const bool with_states : {false, true}) {
      ExpectGood(RandomDelta(
          {.batch = 2, .tokens = tokens, .heads = 3, .key_dim = 16, .value_dim = 24}, with_states));
    }
  }
}

TEST_P(CudaDeltaTest, HeadsOfEverySizeEqualTheRecurrence) {
  for (const int64_t key_dim : {1, 7, 64, 100, 128}) {
    for (const int64_t value_dim : {1, 60, 64, 128, 130}) {
      ExpectGood(RandomDelta({.batch = 2, .tokens = 70, .key_dim = key_dim, .value_dim = value_dim},
                             /*with_states=*/true));
    }
  }
}

TEST_P(CudaDeltaTest, TheLargestHeadsEqualTheRecurrence) {
  ExpectGood(RandomDelta({.tokens = 20, .key_dim = 512, .value_dim = 2048}, /*with_states=*/true));
}

TEST_P(CudaDeltaTest, NegativeEigenvaluesEqualTheRecurrence) {
  for (const int64_t width : {32, 64}) {
    ExpectGood(RandomDelta({.tokens = 200, .heads = 2, .key_dim = width, .value_dim = width},
                           /*with_states=*/true, /*seed=*/9, /*largest_beta=*/2.0));
  }
}

TEST_P(CudaDeltaTest, NoTokensPassTheStateThrough) {
  for (const int64_t width : {24, 64}) {
    const DeltaInputs in =
        RandomDelta({.tokens = 0, .heads = 2, .key_dim = width, .value_dim = width}, true);
    const DeltaResults got = RunDelta(*run_, in);
    EXPECT_EQ(got.s, in.s0);
    EXPECT_EQ(got.d_s0, in.d_s);
  }
}

TEST_P(CudaDeltaTest, BitsAreTheSameAgain) {
  for (const int64_t width : {40, 64}) {
    const DeltaInputs in = RandomDelta(
        {.batch = 2, .tokens = 150, .heads = 2, .key_dim = width, .value_dim = width}, true);
    const DeltaResults once = RunDelta(*run_, in);
    ForEachDeltaResult([&](const char* what, const Values& a,
                           const Values& b) { EXPECT_EQ(a, b) << what << " " << in.Name(); },
                       once, RunDelta(*run_, in));
  }
}

INSTANTIATE_TEST_SUITE_P(All, CudaDeltaTest, ::testing::Values(DType::kBf16, DType::kF32),
                         [](const ::testing::TestParamInfo<DType>& tested) {
                           return std::string(NameOf(tested.param));
                         });

}  // namespace
}  // namespace weft::kernels::testing
