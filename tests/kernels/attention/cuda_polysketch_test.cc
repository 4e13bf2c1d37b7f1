// Polynomial attention on a GPU against the fp64 reference, in fp32 and in bf16, and against
// itself.
#include <gtest/gtest.h>

#include "tests/kernels/attention/plain_polysketch.h"
#include "tests/testing/gpu.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

// What the device will see, for the reference as well. States are of the sum type.
PolysketchData AsSeenBy(DType dtype, PolysketchData in) {
  if (dtype != DType::kBf16) return in;
  for (Values* values : {&in.q, &in.k, &in.phi_q, &in.phi_k, &in.v, &in.d_o}) {
    for (double& value : *values) value = FloatFromBf16(Bf16From(static_cast<float>(value)));
  }
  return in;
}

// In fp32 the house's rule, with 4 ulp for sums in another order. In bf16, where features, weights
// and states are rounded between products, 1e-2 of the root mean square of a result, or of the
// largest of all gradients of the call where terms cancel.
class CudaPolysketchTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    WEFT_CUDA_OR_SKIP(probe, GetParam());
    run_.emplace(DeviceRun::Cuda(NewCudaDevice({.compute = GetParam()}).value()));
  }

  void ExpectGood(const PolysketchData& made) {
    const PolysketchData in = AsSeenBy(GetParam(), made);
    const PolysketchResults exact = RunPolysketch(DeviceRun::Reference(), in);
    const PolysketchResults plain = PlainPolysketch<float>::Run(in);
    ForEachPolysketchResult(
        [&](const char* what, const Values& got, const Values& rival, const Values& want) {
          if (GetParam() == DType::kBf16) {
            EXPECT_LE(RootMeanSquareDifference(got, want), 1.5e-2 * RootMeanSquare(want))
                << what << " of " << in.Name();
          } else {
            const double ulp = std::ldexp(MaxMagnitude(want), -23);
            EXPECT_LE(MaxDifference(got, want), 2.0 * MaxDifference(rival, want) + 4.0 * ulp)
                << what << " of " << in.Name();
          }
        },
        RunPolysketch(*run_, in), plain, exact);
  }

  [[nodiscard]] double Share() const { return GetParam() == DType::kBf16 ? 1e-2 : 1e-5; }

  std::optional<DeviceRun> run_;
};

TEST_P(CudaPolysketchTest, OddShapesEqualTheReference) {
  for (const PolysketchProblem& problem : OddProblems()) {
    for (const bool with_states : {false, true}) {
      ExpectGood(RandomPolysketch(problem, with_states, 2));
    }
  }
}

TEST_P(CudaPolysketchTest, PaddedKeysAreNotSeen) {
  for (const PolysketchProblem& problem : OddProblems()) {
    PolysketchData in = RandomPolysketch(problem, /*with_states=*/true, 3);
    AddPadding(in);
    ExpectGood(in);
  }
}

TEST_P(CudaPolysketchTest, EveryDegreeAndItsScaleEqualTheReference) {
  for (const PolysketchWeights weights : kAllWeights) {
    for (const int64_t degree : {2, 4, 8}) {
      for (const double kappa : {1.0, 3.0}) {
        ExpectGood(RandomPolysketch({.weights = weights,
                                     .batch = 2,
                                     .queries = 90,
                                     .keys = 90,
                                     .heads = 2,
                                     .head_dim = 12,
                                     .sketch_dim = weights == PolysketchWeights::kExact ? 0 : 10,
                                     .degree = degree,
                                     .block = 32,
                                     .c0 = 0.5,
                                     .kappa = kappa}));
      }
    }
  }
}

// What models have, and Hopper's own kernels compute in bf16: heads of 64 and 128, sketches of 32
// and 64, many and few blocks, and tails. Features large enough for far pairs to count as much as
// near ones.
TEST_P(CudaPolysketchTest, TheUsualWidthsEqualTheReference) {
  struct Tokens {
    int64_t batch, all, heads, block, degree;
  };
  for (const int64_t width : {64, 128}) {
    for (const int64_t sketch : {32, 64}) {
      for (const Tokens& tokens :
           {Tokens{2, 65, 3, 128, 4}, Tokens{2, 130, 2, 128, 4}, Tokens{1, 384, 1, 128, 4},
            Tokens{1, 700, 1, 256, 2}, Tokens{1, 300, 2, 512, 8},
            // More states than are summed at a time.
            Tokens{1, sketch == 32 ? 1290 : 200, 1, 128, 4}}) {
        PolysketchData in = RandomPolysketch({.batch = tokens.batch,
                                              .queries = tokens.all,
                                              .keys = tokens.all,
                                              .heads = tokens.heads,
                                              .head_dim = width,
                                              .sketch_dim = sketch,
                                              .degree = tokens.degree,
                                              .block = tokens.block,
                                              .kappa = static_cast<double>(width)});
        for (Values* phi : {&in.phi_q, &in.phi_k}) {
          for (double& value : *phi) value *= 3;
        }
        // Without states: a call that has some goes the general way.
        const PolysketchData seen = AsSeenBy(GetParam(), in);
        ForEachPolysketchResult(
            [&](const char* what, const Values& got, const Values& want) {
              EXPECT_LE(RootMeanSquareDifference(got, want), Share() * RootMeanSquare(want))
                  << what << " of " << in.Name();
            },
            RunPolysketch(*run_, seen, /*states=*/false),
            RunPolysketch(DeviceRun::Reference(), seen, /*states=*/false));
      }
    }
  }
}

// What the forward pass has kept is what the backward pass would make again.
TEST_P(CudaPolysketchTest, BitsAreTheSameAgain) {
  std::vector<PolysketchProblem> problems = OddProblems();
  problems.push_back({.batch = 2,
                      .queries = 512,
                      .keys = 512,
                      .heads = 2,
                      .head_dim = 64,
                      .sketch_dim = 32,
                      .block = 128});
  problems.push_back(
      {.queries = 700, .keys = 700, .head_dim = 128, .sketch_dim = 64, .block = 256});
  for (const PolysketchProblem& problem : problems) {
    for (const bool states : {true, false}) {
      const PolysketchData in = RandomPolysketch(problem, states, 4);
      ForEachPolysketchResult(
          [&](const char* what, const Values& a, const Values& b) {
            EXPECT_EQ(a, b) << what << " of " << in.Name();
          },
          RunPolysketch(*run_, in, states), RunPolysketch(*run_, in, states, /*keep=*/false));
    }
  }
}

// Token after token, as a model writes: the state of the finished blocks and the keys of the
// unfinished one.
TEST_P(CudaPolysketchTest, DecodingGivesWhatTheWholeSequenceGives) {
  for (const PolysketchWeights weights :
       {PolysketchWeights::kMixed, PolysketchWeights::kSketched}) {
    PolysketchProblem problem = {.weights = weights,
                                 .queries = 40,
                                 .keys = 40,
                                 .heads = 2,
                                 .head_dim = 8,
                                 .sketch_dim = 6,
                                 .block = 16};
    const PolysketchData in = AsSeenBy(GetParam(), RandomPolysketch(problem));
    const PolysketchResults whole = RunPolysketch(DeviceRun::Reference(), in);
    PolysketchState state = NewPolysketchState(run_->device(), problem).value();
    const PolysketchOnDevice on(*run_, in);
    Values decoded;
    int64_t pending = 0;
    for (int64_t t = 0; t < problem.queries; ++t) {
      ++pending;
      PolysketchProblem step = problem;
      step.queries = 1;
      step.keys = pending;
      const auto rows = [&](const Tensor& tensor, int64_t first, int64_t count) {
        if (!tensor.present()) return Tensor();
        const int64_t row = tensor.dim(2) * tensor.dim(3);
        return tensor.Part(first * row, {1, count, tensor.dim(2), tensor.dim(3)});
      };
      const int64_t first = t + 1 - pending;
      const PolysketchInputs inputs = {.q = rows(on.inputs.q, t, 1),
                                       .k = rows(on.inputs.k, first, pending),
                                       .phi_q = rows(on.inputs.phi_q, t, 1),
                                       .phi_k = rows(on.inputs.phi_k, first, pending),
                                       .v = rows(on.inputs.v, first, pending),
                                       .valid = {}};
      Tensor o = run_->New({1, 1, problem.heads, problem.head_dim});
      PolysketchSaved unsaved;
      ASSERT_OK(PolysketchForward(run_->stream(), step, inputs, state, o, state, unsaved));
      if (weights == PolysketchWeights::kSketched || pending == problem.block) pending = 0;
      const Values row = run_->Download(o);
      decoded.insert(decoded.end(), row.begin(), row.end());
    }
    EXPECT_LE(RootMeanSquareDifference(decoded, whole.o), Share() * RootMeanSquare(whole.o))
        << in.Name();
  }
}

TEST_P(CudaPolysketchTest, TakesKeysBackOutOfAState) {
  const PolysketchData in = RandomPolysketch({.weights = PolysketchWeights::kSketched,
                                              .batch = 2,
                                              .queries = 300,
                                              .keys = 300,
                                              .heads = 2,
                                              .head_dim = 9,
                                              .sketch_dim = 7,
                                              .block = 64},
                                             /*with_states=*/true);
  const PolysketchOnDevice on(*run_, in);
  PolysketchState state = {.values = run_->NewSum(in.ValuesShape()),
                           .mass = run_->NewSum(in.MassShape())};
  Tensor o = run_->New(on.d_o.shape());
  PolysketchSaved unsaved;
  ASSERT_OK(
      PolysketchForward(run_->stream(), in.problem, on.inputs, on.initial, o, state, unsaved));
  const Values after = run_->Download(state.values);
  EXPECT_GE(RootMeanSquareDifference(after, in.values), RootMeanSquare(in.values));
  ASSERT_OK(PolysketchUndo(run_->stream(), in.problem, on.inputs, state));
  EXPECT_LE(MaxDifference(run_->Download(state.values), in.values), 1e-5 * MaxMagnitude(after));
  EXPECT_LE(MaxDifference(run_->Download(state.mass), in.mass), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(All, CudaPolysketchTest, ::testing::Values(DType::kBf16, DType::kF32),
                         [](const ::testing::TestParamInfo<DType>& tested) {
                           return std::string(NameOf(tested.param));
                         });

}  // namespace
}  // namespace weft::kernels::testing
