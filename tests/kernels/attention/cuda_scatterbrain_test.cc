// Scatterbrain on a GPU: the reference's results in fp32 and in bf16 for every support, its
// buckets, the same bits again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/ops/register.h"
#include "tests/kernels/attention/cuda_testing.h"
#include "tests/kernels/attention/scatterbrain_testing.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

using ::testing::HasSubstr;
using weft::testing::StatusIs;

using Dropped = ScatterbrainProblem::Dropped;

class CudaScatterbrainTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override { RegisterCudaKernels(); }
  static DeviceRun Run() { return DeviceRun::Cuda(weft::testing::CudaOrNull(GetParam())); }

  static void ExpectEqualsReference(ScatterbrainInputs in) {
    RoundTo(GetParam(), {&in.q, &in.k, &in.v, &in.w, &in.d_o});
    const ScatterbrainResults plain = PlainScatterbrain<float>::Run(in);
    // Gradients are differences of terms of size one; what a support leaves of the low-rank total
    // is a difference too.
    const double terms = std::max(1.0, plain.largest_total);
    ForEachScatterbrainResult(
        [&](absl::string_view what, const Values& got, const Values& p, const Values& exact) {
          if (what == "log_normaliser") return ExpectNearLogarithms(got, exact, in.Name());
          // As wrong as plain fp32 arithmetic is, and roundings.
          const double allowed = GetParam() == DType::kF32 ? MaxDifference(p, exact) : 0.0;
          ExpectNear(GetParam(), got, exact, absl::StrCat(what, " ", in.Name()),
                     terms + 0.25 * allowed / 0x1p-23);
        },
        RunScatterbrain(Run(), in), plain, RunScatterbrain(DeviceRun::Reference(), in));
  }

 private:
  static void ExpectNearLogarithms(const Values& got, const Values& exact,
                                   const std::string& name) {
    const double allowed = GetParam() == DType::kF32 ? 1e-5 : 0.02;
    for (size_t i = 0; i < exact.size(); ++i) {
      if (std::isinf(exact[i])) {
        EXPECT_EQ(got[i], exact[i]) << name;
      } else {
        EXPECT_NEAR(got[i], exact[i], allowed * (1.0 + std::abs(exact[i]))) << name;
      }
    }
  }
};

std::vector<ScatterbrainProblem> SupportedProblems(int64_t queries, int64_t keys, bool causal) {
  return EverySupport(queries, keys, causal, /*windows=*/{1, 33, 130, 5000}, /*most_buckets=*/5);
}

TEST_P(CudaScatterbrainTest, EqualsTheReferenceForEverySupport) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  for (const int64_t length : {1, 64, 65, 200}) {
    for (const bool causal : {false, true}) {
      for (const ScatterbrainProblem& problem : SupportedProblems(length, length, causal)) {
        ExpectEqualsReference(RandomScatterbrain(problem));
      }
    }
  }
}

// All kernels once, so narrow that tools which watch every access (compute-sanitizer) get through.
TEST_P(CudaScatterbrainTest, NarrowProblemsEqualTheReference) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  for (ScatterbrainProblem problem :
       EverySupport(70, 70, /*causal=*/true, /*windows=*/{33}, /*most_buckets=*/2)) {
    problem.features = 70;
    problem.epsilon = 0.01;
    ExpectEqualsReference(RandomScatterbrain(problem));
  }
}

TEST_P(CudaScatterbrainTest, EqualsTheReferenceForUnequalLengths) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{47, 39}, {30, 170}, {170, 30}}) {
    for (const ScatterbrainProblem& problem : SupportedProblems(queries, keys, /*causal=*/false)) {
      ExpectEqualsReference(RandomScatterbrain(problem));
    }
  }
}

TEST_P(CudaScatterbrainTest, EqualsTheReferenceWithPaddingAndEpsilon) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  for (const bool causal : {false, true}) {
    for (ScatterbrainProblem problem : SupportedProblems(150, 150, causal)) {
      problem.batch = 2;
      problem.epsilon = 0.01;
      ExpectEqualsReference(RandomScatterbrain(problem, /*seed=*/2, /*padded=*/true));
    }
  }
}

TEST_P(CudaScatterbrainTest, EqualsTheReferenceUnderDropout) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  for (const bool causal : {false, true}) {
    for (ScatterbrainProblem problem : SupportedProblems(140, 140, causal)) {
      problem.dropout = {.probability = 0.3, .seed = 9, .step = 2, .layer = 3, .first_sequence = 4};
      for (const Dropped dropped : {Dropped::kExact, Dropped::kCorrection}) {
        problem.dropped = dropped;
        ExpectEqualsReference(RandomScatterbrain(problem, /*seed=*/3, /*padded=*/true));
      }
    }
  }
}

TEST_P(CudaScatterbrainTest, HeadsAndFeaturesOfEverySizeEqualTheReference) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  for (const int64_t dim : {1, 7, 32, 60, 128}) {
    for (const int64_t features : {1, 6, 64, 73, 140}) {
      for (const bool causal : {false, true}) {
        ScatterbrainProblem problem = SmallScatterbrain(100, 100, causal, WindowSupport{20});
        problem.batch = 2;
        problem.heads = 3;
        problem.key_dim = dim;
        problem.value_dim = dim == 60 ? 128 : dim;
        problem.scale = 1.0 / static_cast<double>(dim);
        problem.features = features;
        problem.hyperbolic = features % 2 == 0;
        ExpectEqualsReference(RandomScatterbrain(problem));
      }
    }
  }
}

TEST_P(CudaScatterbrainTest, GivesTheSameBitsAgain) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  for (ScatterbrainProblem problem : SupportedProblems(400, 400, /*causal=*/true)) {
    problem.key_dim = problem.value_dim = 64;
    problem.features = 40;
    const ScatterbrainInputs in = RandomScatterbrain(problem);
    ForEachScatterbrainResult(
        [&](const char* what, const Values& a, const Values& b) {
          EXPECT_TRUE(a == b) << what << " " << in.Name();
        },
        RunScatterbrain(Run(), in), RunScatterbrain(Run(), in));
  }
}

// Buckets of the queries and of the keys on one device.
std::pair<Values, Values> BucketsOn(DeviceRun run, const ScatterbrainInputs& in,
                                    const Values& projections) {
  const auto& hash = std::get<HashSupport>(in.problem.support);
  const ScatterbrainOperands operands = UploadScatterbrain(run, in);
  HashBucketTensors buckets = NewHashBuckets(run.device(), in.problem).value();
  EXPECT_OK(HashBuckets(run.stream(), in.problem, operands.q, operands.k,
                        run.UploadSum(projections, {hash.rounds, in.problem.key_dim + 2}),
                        operands.valid, buckets));
  return {run.Download(buckets.queries), run.Download(buckets.keys)};
}

TEST_P(CudaScatterbrainTest, HashesIntoTheReferencesBuckets) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{300, 300}, {120, 360}}) {
    ScatterbrainProblem problem =
        SmallScatterbrain(queries, keys, /*causal=*/false, HashSupport{3, queries / 12, keys / 12});
    problem.batch = 2;
    ScatterbrainInputs in = RandomScatterbrain(problem, /*seed=*/4, /*padded=*/true);
    RoundTo(GetParam(), {&in.q, &in.k});
    NumberStream numbers(5);
    Values projections = numbers.Symmetric(3 * (problem.key_dim + 2));
    RoundToFloat(projections);
    EXPECT_EQ(BucketsOn(Run(), in, projections),
              BucketsOn(DeviceRun::Reference(), in, projections));
  }
}

TEST_P(CudaScatterbrainTest, ReportsABucketOutOfRangeAtTheNextSynchronize) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  ScatterbrainInputs in =
      RandomScatterbrain(SmallScatterbrain(40, 40, /*causal=*/false, HashSupport{2, 10, 10}));
  in.key_buckets[7] = 4;
  DeviceRun run = Run();
  const ScatterbrainOperands operands = UploadScatterbrain(run, in);
  Tensor o = run.New(in.OutputShape());
  ScatterbrainSaved saved = NewScatterbrainSaved(run.device(), in.problem).value();
  EXPECT_OK(ScatterbrainForward(run.stream(), in.problem, operands, o, saved));
  EXPECT_THAT(run.stream().Synchronize(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("place 7")));
}

TEST_P(CudaScatterbrainTest, RefusesWhatItDoesNotCover) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  RegisterCudaAttention();
  ScatterbrainProblem problem = SmallScatterbrain(8, 8, /*causal=*/true, {});
  EXPECT_OK(Supports(*cuda, problem));
  EXPECT_THAT(SupportsDecoding(*cuda, problem),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("decode on cuda")));
  problem.value_dim = 129;
  EXPECT_THAT(Supports(*cuda, problem),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("value_dim 129")));
  problem.value_dim = 5;
  problem.batch = 40000;
  EXPECT_THAT(Supports(*cuda, problem),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("80000 heads")));
}

INSTANTIATE_TEST_SUITE_P(Types, CudaScatterbrainTest, ::testing::Values(DType::kF32, DType::kBf16),
                         [](const ::testing::TestParamInfo<DType>& tested) {
                           return std::string(NameOf(tested.param));
                         });

}  // namespace
}  // namespace weft::kernels::testing
