// Softmax attention on a GPU against the fp64 reference, in fp32 and in bf16, and against itself.
#include <gtest/gtest.h>

#include "tests/kernels/attention/softmax_testing.h"
#include "tests/testing/gpu.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

using ::testing::HasSubstr;
using weft::testing::StatusIs;

// What the device will see, for the reference as well.
SoftmaxInputs AsSeenBy(DType dtype, SoftmaxInputs in) {
  if (dtype != DType::kBf16) return in;
  for (Values* values : {&in.q, &in.k, &in.v, &in.d_o}) {
    for (double& value : *values) value = FloatFromBf16(Bf16From(static_cast<float>(value)));
  }
  return in;
}

class CudaSoftmaxTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    WEFT_CUDA_OR_SKIP(probe, GetParam());
    run_.emplace(DeviceRun::Cuda(NewCudaDevice({.compute = GetParam()}).value()));
  }

  // In fp32 the house's rule, with 4 ulp for sums in another order and the GPU's functions. In
  // bf16, where weights and their gradients are rounded between products, 1e-2 of the root mean
  // square of a result, or of what cancels in it: gradients of logits are differences of d_o . v.
  void ExpectGood(const SoftmaxInputs& made, double size = 1.0) {
    const SoftmaxInputs in = AsSeenBy(GetParam(), made);
    const SoftmaxResults exact = RunSoftmax(DeviceRun::Reference(), in);
    const SoftmaxResults plain = PlainSoftmax<float>::Run(in);
    const SoftmaxResults got = RunSoftmax(*run_, in);
    ForEachSoftmaxResult(
        [&](absl::string_view what, const Values& g, const Values& rival, const Values& want) {
          const std::string name = absl::StrCat(what, " ", in.Name());
          if (what == "lse") {
            ExpectSameLse(g, want, size, name);
          } else if (GetParam() == DType::kBf16) {
            const bool cancels = what == "d_q" || what == "d_k";
            EXPECT_LE(RootMeanSquareDifference(g, want),
                      1e-2 * std::max(RootMeanSquare(want), cancels ? 0.05 * size : 0.0))
                << name;
          } else {
            const double terms = what == "d_k" ? size * MaxMagnitude(in.q) : size;
            const double ulp = std::ldexp(std::max(terms, MaxMagnitude(want)), -23);
            EXPECT_LE(MaxDifference(g, want), 2.0 * MaxDifference(rival, want) + 4.0 * ulp) << name;
          }
        },
        got, plain, exact);
  }

  // `size`: of the terms of logits.
  static void ExpectSameLse(const Values& got, const Values& want, double size,
                            const std::string& name) {
    for (size_t i = 0; i < want.size(); ++i) {
      if (std::isinf(want[i])) {
        EXPECT_EQ(got[i], want[i]) << name;
      } else {
        EXPECT_NEAR(got[i], want[i], 1e-6 * (size + std::abs(want[i]))) << name;
      }
    }
  }

  std::optional<DeviceRun> run_;
};

TEST_P(CudaSoftmaxTest, EqualsTheReferenceUnderEveryMask) {
  for (const SoftmaxProblem& problem : MaskedProblems()) ExpectGood(RandomSoftmax(problem));
}

TEST_P(CudaSoftmaxTest, EqualsTheReferenceWithPaddingAndDropout) {
  for (const SoftmaxProblem& problem : MaskedProblems()) {
    const SoftmaxInputs in = RandomSoftmax(problem);
    for (const SoftmaxInputs& changed : {Padded(in), Dropping(Padded(in))}) ExpectGood(changed);
  }
}

// Widths around those that kernels are made for, aligned and not.
TEST_P(CudaSoftmaxTest, HeadsOfEverySizeEqualTheReference) {
  for (const int64_t head_dim : {1, 7, 32, 60, 64, 80, 100, 128, 136, 200, 256}) {
    for (const bool causal : {true, false}) {
      const SoftmaxInputs in = RandomSoftmax({.batch = 2,
                                              .queries = 150,
                                              .keys = 150,
                                              .heads = 3,
                                              .kv_heads = 3,
                                              .head_dim = head_dim,
                                              .causal = causal});
      ExpectGood(in);
      ExpectGood(Dropping(Padded(in)));
    }
  }
}

TEST_P(CudaSoftmaxTest, HeadsThatShareKeysEqualTheReference) {
  struct {
    int64_t queries, keys, window;
  } const cases[] = {{140, 270, 90}, {140, 140, 0}, {200, 200, 90}};
  for (const auto& [queries, keys, window] : cases) {
    for (const int64_t head_dim : {16, 64, 128}) {
      for (const int64_t kv_heads : {1, 2, 6}) {
        ExpectGood(RandomSoftmax({.batch = 2,
                                  .queries = queries,
                                  .keys = keys,
                                  .heads = 6,
                                  .kv_heads = kv_heads,
                                  .head_dim = head_dim,
                                  .window = window}));
      }
    }
  }
}

// Blocks that stay take several pieces of work then, long ones and short ones.
TEST_P(CudaSoftmaxTest, MorePiecesThanAGpuWorksOnAtOnceEqualTheReference) {
  for (const int64_t head_dim : {64, 128}) {
    ExpectGood(RandomSoftmax({.batch = 10,
                              .queries = 130,
                              .keys = 130,
                              .heads = 8,
                              .kv_heads = 8,
                              .head_dim = head_dim}));
  }
}

// Sequences of several tiles, with and without a window, at the widths that have kernels of their
// own on some GPUs.
TEST_P(CudaSoftmaxTest, LongerSequencesEqualTheReference) {
  struct {
    int64_t tokens, window;
  } const cases[] = {{128, 0}, {257, 0}, {257, 100}, {640, 0}, {640, 1}, {640, 256}, {640, 300}};
  for (const auto& [tokens, window] : cases) {
    for (const int64_t head_dim : {64, 128}) {
      for (const bool causal : {true, false}) {
        ExpectGood(RandomSoftmax({.queries = tokens,
                                  .keys = tokens,
                                  .heads = 2,
                                  .kv_heads = 2,
                                  .head_dim = head_dim,
                                  .causal = causal,
                                  .window = window}));
      }
    }
  }
}

TEST_P(CudaSoftmaxTest, LargeLogitsNeitherOverflowNorVanish) {
  const SoftmaxInputs in =
      RandomSoftmax({.queries = 300, .keys = 300, .head_dim = 64}, /*seed=*/4, /*spread=*/500.0);
  ExpectGood(in, MaxMagnitude(PlainSoftmax<double>::Run(in).lse));
}

TEST_P(CudaSoftmaxTest, ALaterTokenChangesNoEarlierBit) {
  for (const int64_t head_dim : {12, 64, 128}) {
    const SoftmaxInputs in = RandomSoftmax(
        {.queries = 300, .keys = 300, .heads = 2, .kv_heads = 2, .head_dim = head_dim});
    const Values before = RunSoftmax(*run_, in).o;
    const int64_t row = 2 * head_dim;
    for (const int64_t t : {1, 127, 128, 200, 256, 299}) {
      SoftmaxInputs changed = in;
      for (Values* values : {&changed.q, &changed.k, &changed.v}) {
        for (int64_t i = 0; i < row; ++i) (*values)[t * row + i] = 5.0 - (*values)[t * row + i];
      }
      const Values after = RunSoftmax(*run_, changed).o;
      EXPECT_TRUE(std::equal(before.begin(), before.begin() + t * row, after.begin())) << t;
      EXPECT_FALSE(std::equal(before.begin() + t * row, before.end(), after.begin() + t * row))
          << t;
    }
  }
}

TEST_P(CudaSoftmaxTest, BitsAreTheSameAgain) {
  for (const int64_t head_dim : {40, 64, 128}) {
    const SoftmaxInputs in = RandomSoftmax({.batch = 3,
                                            .queries = 1500,
                                            .keys = 1500,
                                            .heads = 8,
                                            .kv_heads = 8,
                                            .head_dim = head_dim});
    for (const SoftmaxInputs& changed : {in, Dropping(Padded(in))}) {
      const SoftmaxResults once = RunSoftmax(*run_, changed);
      for (int repetition = 0; repetition < 3; ++repetition) {
        ForEachSoftmaxResult(
            [&](const char* what, const Values& got, const Values& want) {
              EXPECT_TRUE(got == want) << what << " " << changed.Name();
            },
            RunSoftmax(*run_, changed), once);
      }
    }
  }
}

// A sequence has the bits that it has alone.
TEST_P(CudaSoftmaxTest, BitsDoNotDependOnTheBatch) {
  SoftmaxInputs in = RandomSoftmax(
      {.batch = 2, .queries = 400, .keys = 400, .heads = 2, .kv_heads = 2, .head_dim = 64});
  const SoftmaxResults both = RunSoftmax(*run_, in);
  in.problem.batch = 1;
  for (Values* values : {&in.q, &in.k, &in.v, &in.d_o}) values->resize(values->size() / 2);
  ForEachSoftmaxResult(
      [&](const char* what, const Values& whole, const Values& alone) {
        EXPECT_TRUE(std::equal(alone.begin(), alone.end(), whole.begin())) << what;
      },
      both, RunSoftmax(*run_, in));
}

TEST_P(CudaSoftmaxTest, SaysWhichHeadsAreTooWide) {
  EXPECT_THAT(Supports(run_->device(), {.queries = 4, .keys = 4, .head_dim = 257}),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("heads are 257 wide, at most 256 are covered")));
}

INSTANTIATE_TEST_SUITE_P(Types, CudaSoftmaxTest, ::testing::Values(DType::kF32, DType::kBf16),
                         [](const ::testing::TestParamInfo<DType>& tested) {
                           return std::string(NameOf(tested.param));
                         });

}  // namespace
}  // namespace weft::kernels::testing
