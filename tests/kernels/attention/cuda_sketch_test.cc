// Random and learned sketches on a GPU against the fp64 reference, in fp32 and in bf16, and against
// themselves.
#include <gtest/gtest.h>

#include "tests/kernels/attention/sketch_testing.h"
#include "tests/testing/gpu.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

void RoundTo(DType dtype, Values& values) {
  if (dtype != DType::kBf16) return;
  for (double& value : values) value = FloatFromBf16(Bf16From(static_cast<float>(value)));
}

// Every stage rounds its results: some roundings of bf16 (2^-9 of a number each), amplified by
// norms and products on their way; in fp32, some dozens of roundings as on the CPU.
class CudaSketchTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    WEFT_CUDA_OR_SKIP(probe, GetParam());
    run_.emplace(DeviceRun::Cuda(NewCudaDevice({.compute = GetParam()}).value()));
  }
  void ExpectClose(const std::string& what, const Values& got, const Values& want) const {
    const double share = GetParam() == DType::kBf16 ? 3e-2 : 1e-5;
    EXPECT_LE(RootMeanSquareDifference(got, want), share * RootMeanSquare(want)) << what;
  }

  // With weights as small as a model's: what is rounded then counts as it does there.
  static LearnedSketchData SmallWeights(const LearnedSketchProblem& problem, int64_t rows) {
    LearnedSketchData in = MakeLearnedSketch(problem, rows, 6);
    const auto shrink = [&](const std::string& name, Values& values) {
      const bool expand = name.rfind("expand", 0) == 0;
      if (name.rfind("norm", 0) == 0) return;
      const double inputs = static_cast<double>(
          !expand ? problem.hidden_dim : std::min(problem.input_dim, problem.sketch_dim));
      for (double& value : values) value *= std::sqrt(3.0 / inputs);
    };
    ForEachParameter(shrink, in);
    const auto round = [](const std::string&, Values& values) {
      RoundTo(GetParam(), values);
      RoundToFloat(values);
    };
    round("x", in.x);
    round("d_phi", in.d_phi);
    ForEachParameter(round, in);
    return in;
  }

  std::optional<DeviceRun> run_;
};

TEST_P(CudaSketchTest, RandomSketchesEqualTheReference) {
  for (const int64_t degree : {4, 8, 32}) {
    for (const int64_t rows : {0, 1, 300}) {
      SCOPED_TRACE(absl::StrCat("degree ", degree, " rows ", rows));
      RandomSketchData in =
          MakeRandomSketch({.input_dim = 17, .sketch_dim = 9, .degree = degree}, rows, 5);
      for (Values* values : {&in.x, &in.d_phi, &in.matrices.leaves, &in.matrices.inner}) {
        RoundTo(GetParam(), *values);
      }
      const SketchResults want = RunRandomSketch(DeviceRun::Reference(), in);
      const SketchResults got = RunRandomSketch(*run_, in);
      ExpectClose("phi", got.phi, want.phi);
      ExpectClose("d_x", got.d_x, want.d_x);
      const SketchResults again = RunRandomSketch(*run_, in);
      EXPECT_EQ(again.phi, got.phi);
      EXPECT_EQ(again.d_x, got.d_x);
    }
  }
}

TEST_P(CudaSketchTest, LearnedSketchesEqualTheReference) {
  for (const LearnedSketchProblem& problem :
       {LearnedSketchProblem{.input_dim = 11, .sketch_dim = 7, .hidden_dim = 20},
        // What models have, and Hopper's own kernels compute in bf16.
        LearnedSketchProblem{.input_dim = 64, .sketch_dim = 32, .hidden_dim = 256},
        LearnedSketchProblem{.input_dim = 128, .sketch_dim = 32, .hidden_dim = 256},
        LearnedSketchProblem{.input_dim = 64, .sketch_dim = 64, .hidden_dim = 512},
        LearnedSketchProblem{.input_dim = 128, .sketch_dim = 64, .hidden_dim = 512}}) {
    for (const int64_t rows : {0, 1, 129, 600}) {
      SCOPED_TRACE(
          absl::StrCat("width ", problem.input_dim, " r ", problem.sketch_dim, " rows ", rows));
      LearnedSketchData in = SmallWeights(problem, rows);
      if (rows == 600) {  // far from mean 0
        for (double& value : in.x) value += 4;
        RoundTo(GetParam(), in.x);
        RoundToFloat(in.x);
      }
      LearnedSketchResults want = RunLearnedSketch(DeviceRun::Reference(), in);
      LearnedSketchResults got = RunLearnedSketch(*run_, in);
      ExpectClose("phi", got.phi, want.phi);
      ExpectClose("d_x", got.d_x, want.d_x);
      ForEachParameter([&](const std::string& name, const Values& a,
                           const Values& b) { ExpectClose(name, a, b); },
                       got, want);
      LearnedSketchResults again = RunLearnedSketch(*run_, in);
      EXPECT_EQ(again.phi, got.phi);
      EXPECT_EQ(again.d_x, got.d_x);
      ForEachParameter([](const std::string& name, const Values& a,
                          const Values& b) { EXPECT_EQ(a, b) << name; },
                       again, got);
    }
  }
}

// More rows than all blocks of a GPU take at once, so many times the same ones that the reference
// is spared: results of rows repeat, and gradients of parameters are so many times those of one
// turn.
TEST_P(CudaSketchTest, ManyRowsAreFewRowsManyTimes) {
  constexpr int64_t times = 500;
  for (const LearnedSketchProblem& problem :
       {LearnedSketchProblem{.input_dim = 128, .sketch_dim = 32, .hidden_dim = 256},
        LearnedSketchProblem{.input_dim = 64, .sketch_dim = 64, .hidden_dim = 512}}) {
    SCOPED_TRACE(absl::StrCat("width ", problem.input_dim, " r ", problem.sketch_dim));
    const auto repeat = [](const Values& values) {
      Values all;
      for (int64_t i = 0; i < times; ++i) all.insert(all.end(), values.begin(), values.end());
      return all;
    };
    LearnedSketchData few = SmallWeights(problem, 129);
    LearnedSketchData many = few;
    many.rows *= times;
    many.x = repeat(few.x);
    many.d_phi = repeat(few.d_phi);
    LearnedSketchResults want = RunLearnedSketch(*run_, few);
    LearnedSketchResults got = RunLearnedSketch(*run_, many);
    // Of one wrong tile of 64 rows among all it is 3e-2.
    const auto expect = [&](const std::string& name, const Values& a, const Values& b) {
      EXPECT_LE(RootMeanSquareDifference(a, b), 1e-2 * RootMeanSquare(b)) << name;
    };
    expect("phi", got.phi, repeat(want.phi));
    expect("d_x", got.d_x, repeat(want.d_x));
    ForEachParameter(
        [](const std::string&, Values& values) {
          for (double& value : values) value *= times;
        },
        want);
    ForEachParameter(expect, got, want);
  }
}

// What the forward pass has kept is what the backward pass would make again.
TEST_P(CudaSketchTest, GradientsDoNotDependOnWhatIsKept) {
  for (const LearnedSketchProblem& problem :
       {LearnedSketchProblem{.input_dim = 8, .sketch_dim = 4, .hidden_dim = 8},
        LearnedSketchProblem{.input_dim = 64, .sketch_dim = 64, .hidden_dim = 512},
        LearnedSketchProblem{.input_dim = 128, .sketch_dim = 32, .hidden_dim = 256}}) {
    SCOPED_TRACE(absl::StrCat("width ", problem.input_dim));
    const LearnedSketchData in = SmallWeights(problem, 200);
    LearnedSketchResults kept = RunLearnedSketch(*run_, in);
    LearnedSketchResults made = RunLearnedSketch(*run_, in, 0.0, Accumulate::kNo, /*keep=*/false);
    EXPECT_EQ(kept.phi, made.phi);
    EXPECT_EQ(kept.d_x, made.d_x);
    ForEachParameter(
        [](const std::string& name, const Values& a, const Values& b) { EXPECT_EQ(a, b) << name; },
        kept, made);
  }
}

TEST_P(CudaSketchTest, GradientsAreAddedTo) {
  for (const LearnedSketchProblem& problem :
       {LearnedSketchProblem{.input_dim = 8, .sketch_dim = 4, .hidden_dim = 8},
        LearnedSketchProblem{.input_dim = 64, .sketch_dim = 64, .hidden_dim = 512}}) {
    SCOPED_TRACE(absl::StrCat("width ", problem.input_dim));
    const LearnedSketchData in = SmallWeights(problem, 70);
    LearnedSketchResults once = RunLearnedSketch(*run_, in);
    LearnedSketchResults added = RunLearnedSketch(*run_, in, 3.0, Accumulate::kYes);
    const auto expect = [](const std::string& name, const Values& a, const Values& b) {
      for (size_t i = 0; i < a.size(); ++i) {
        EXPECT_NEAR(a[i] + 3.0, b[i], 2e-5 * (10 + std::abs(a[i]))) << name;
      }
    };
    ForEachParameter(expect, once, added);
    // d_x is of the compute type: the sum is rounded again, more than once.
    for (size_t i = 0; i < once.d_x.size(); ++i) {
      EXPECT_NEAR(once.d_x[i] + 3.0, added.d_x[i], 2e-2 * (10 + std::abs(once.d_x[i])));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, CudaSketchTest, ::testing::Values(DType::kBf16, DType::kF32),
                         [](const ::testing::TestParamInfo<DType>& tested) {
                           return std::string(NameOf(tested.param));
                         });

}  // namespace
}  // namespace weft::kernels::testing
