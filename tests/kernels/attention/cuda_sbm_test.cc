// SBM attention on a GPU: the graphs of the other devices, the reference's results along them in
// fp32 and in bf16, the same bits again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/ops/register.h"
#include "tests/kernels/attention/cuda_testing.h"
#include "tests/kernels/attention/sbm_chain.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

using ::testing::HasSubstr;
using weft::testing::StatusIs;

std::string NameOfType(const ::testing::TestParamInfo<DType>& tested) {
  return std::string(NameOf(tested.param));
}

void ExpectSameGraph(const SbmInputs& in) {
  const SbmResults got = SampleSbm(DeviceRun::Cuda(weft::testing::CudaOrNull(DType::kBf16)), in);
  const SbmResults want = SampleSbm(DeviceRun::Cpu(), in);
  EXPECT_EQ(got.bits, want.bits) << in.Name();
  EXPECT_EQ(got.copies, want.copies) << in.Name();
  EXPECT_LE(MaxDifference(got.density, want.density), 1e-6) << in.Name();
}

TEST(CudaSbmGraphTest, HasTheEdgesOfTheCpu) {
  WEFT_CUDA_OR_SKIP(cuda, DType::kBf16);
  for (const SbmSampler sampler :
       {SbmSampler::kPoisson, SbmSampler::kPoissonCopies, SbmSampler::kExact, SbmSampler::kDense}) {
    for (const bool causal : {false, true}) {
      for (const auto& [queries, keys] :
           {std::pair<int64_t, int64_t>{1, 1}, {65, 65}, {7, 90}, {300, 300}}) {
        for (const bool padded : {false, true}) {
          SbmInputs in = RandomSbm({.batch = 2,
                                    .queries = queries,
                                    .keys = keys,
                                    .heads = 3,
                                    .head_dim = 1,
                                    .clusters = padded ? 5 : 33,
                                    .causal = causal,
                                    .sampler = sampler});
          in.draws.training = !padded;
          if (padded) PadEnds(in, 9);
          ExpectSameGraph(in);
        }
      }
    }
  }
}

TEST(CudaSbmGraphTest, HasTheEdgesOfTheCpuForManyKeysAndFewEdges) {
  WEFT_CUDA_OR_SKIP(cuda, DType::kBf16);
  for (const SbmSampler sampler : {SbmSampler::kPoisson, SbmSampler::kExact}) {
    SbmInputs in = RandomSbm({.queries = 40,
                              .keys = 5000,  // sums of 64 bits
                              .head_dim = 1,
                              .clusters = 4,
                              .causal = true,
                              .sampler = sampler});
    ExpectSameGraph(in);
    for (double& share : in.query) share *= 0.03;  // counts below ten: the other way of drawing
    RoundToFloat(in.query);
    in.problem.exploration = 0.0;
    ExpectSameGraph(in);
  }
}

class CudaSbmTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override { RegisterCudaKernels(); }
  static DeviceRun Run() { return DeviceRun::Cuda(weft::testing::CudaOrNull(GetParam())); }
};

// Everything that changes what is computed, at lengths around the blocks of 64 and 32.
std::vector<SbmInputs> Problems() {
  std::vector<SbmInputs> problems;
  const auto add = [&](SbmProblem problem, int64_t dim, int64_t clusters, int64_t padding = 0) {
    problem.heads = 2;
    problem.head_dim = dim;
    problem.clusters = clusters;
    problems.push_back(RandomSbm(problem));
    if (padding > 0) PadEnds(problems.back(), padding);
  };
  for (const int64_t length : {1, 64, 65, 130}) {
    add({.queries = length, .keys = length, .causal = length % 2 == 1}, 8, 5);
  }
  for (const int64_t dim : {7, 32, 40, 64, 128}) {
    add({.queries = 70, .keys = 150, .causal = true, .dropout = Dropout(0.3)}, dim, 3 * dim);
  }
  add({.queries = 1, .keys = 150}, 16, 16);
  add({.batch = 2, .queries = 90, .keys = 90}, 16, 8, 20);
  for (const SbmStraightThrough estimate :
       {SbmStraightThrough::kMask, SbmStraightThrough::kLogit}) {
    for (const SbmSampler sampler : {SbmSampler::kExact, SbmSampler::kPoissonCopies}) {
      add({.batch = 2,
           .queries = 70,
           .keys = 140,
           .sampler = sampler,
           .dropout = Dropout(0.25),
           .straight_through = estimate,
           .clip = 0.05,
           .density_gradient = 30.0},
          24, 20, 3);
    }
  }
  return problems;
}

// Gradients of logits are differences of d_o . v; d_k takes them times q. Those of memberships are
// sums over a row or a column.
double SizeOfTerms(const SbmInputs& in, absl::string_view what) {
  const double slope = std::sqrt(static_cast<double>(in.problem.head_dim));
  if (what == "d_k") return slope * MaxMagnitude(in.q) * in.problem.scale;
  if (what == "d_affinity") return 20.0;
  return what == "d_q" || what == "d_v" ? 1.0 : slope;
}

void ExpectEqualsReference(DType type, DeviceRun run, SbmInputs in) {
  RoundTo(type, {&in.q, &in.k, &in.v, &in.d_o});
  const SbmResults graph = SampleSbm(DeviceRun::Cpu(), in);
  const SbmResults exact = RunSbm(DeviceRun::Reference(), in, &graph);
  const SbmResults got = RunSbm(std::move(run), in, &graph);
  ForEachSbmResult(
      [&](absl::string_view what, const Values& g, const Values& e) {
        if (what == "lse") return;
        ExpectNear(type, g, e, absl::StrCat(what, " ", in.Name()), SizeOfTerms(in, what));
      },
      got, exact);
  for (size_t i = 0; i < exact.lse.size(); ++i) {  // rows without edges: -infinity on both sides
    if (std::isinf(exact.lse[i])) {
      EXPECT_EQ(got.lse[i], exact.lse[i]) << in.Name();
    } else {
      EXPECT_NEAR(got.lse[i], exact.lse[i], 4e-6 * (1.0 + std::abs(exact.lse[i]))) << in.Name();
    }
  }
}

TEST_P(CudaSbmTest, EqualsTheReferenceAlongAGraph) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  for (const SbmInputs& in : Problems()) ExpectEqualsReference(GetParam(), Run(), in);
}

// All kernels once, so narrow that tools which watch every access (compute-sanitizer) get through.
TEST_P(CudaSbmTest, ANarrowProblemEqualsTheReference) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  ExpectEqualsReference(GetParam(), Run(),
                        RandomSbm({.queries = 70,
                                   .keys = 150,
                                   .heads = 2,
                                   .head_dim = 24,
                                   .clusters = 40,
                                   .causal = true,
                                   .dropout = Dropout(0.3)}));
}

TEST_P(CudaSbmTest, GivesTheSameBitsAgain) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  const SbmInputs in = RandomSbm({.batch = 3,
                                  .queries = 500,
                                  .keys = 500,
                                  .heads = 4,
                                  .head_dim = 64,
                                  .clusters = 40,
                                  .dropout = Dropout(0.1)});
  const SbmResults once = RunSbm(Run(), in);
  const SbmResults again = RunSbm(Run(), in);
  EXPECT_EQ(once.bits, again.bits);
  ForEachSbmResult(
      [](const char* what, const Values& a, const Values& b) { EXPECT_TRUE(a == b) << what; }, once,
      again);
}

TEST_P(CudaSbmTest, GradientsThroughMembershipsEqualTheReference) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  for (const auto& [dim, clusters] : {std::pair<int64_t, int64_t>{5, 3}, {32, 40}, {64, 17}}) {
    SbmChain chain = RandomChain(
        {.batch = 2, .queries = 50, .keys = 50, .heads = 2, .head_dim = dim, .clusters = clusters},
        /*seed=*/7);
    // As layers begin: outputs of the map of the size of its inputs.
    const double root = 1.0 / std::sqrt(static_cast<double>(dim));
    for (Values* weights : {&chain.at.w1, &chain.at.w2, &chain.at.clusters}) {
      for (double& weight : *weights) weight *= root;
    }
    chain.at.Each([&](const char*, Values& values) { RoundTo(GetParam(), {&values}); });
    RoundTo(GetParam(), {&chain.in.d_o});
    chain.mask = MaskOf(chain.in, SampleSbm(DeviceRun::Cpu(), chain.in));
    SbmParameters exact = ChainGradients(DeviceRun::Reference(), chain, /*before=*/0.5);
    SbmParameters got = ChainGradients(Run(), chain, /*before=*/0.5);
    std::vector<Values*> wanted;
    exact.Each([&](const char*, Values& values) { wanted.push_back(&values); });
    size_t next = 0;
    const std::string width = absl::StrCat(" D", dim);
    got.Each([&](const char* what, Values& values) {
      ExpectNear(GetParam(), values, *wanted[next++], what + width, /*terms=*/4.0);
    });
  }
}

TEST_P(CudaSbmTest, RefusesWhatItDoesNotCover) {
  WEFT_CUDA_OR_SKIP(cuda, GetParam());
  RegisterCudaAttention();
  const SbmProblem covered{.queries = 8, .keys = 8, .head_dim = 128};
  EXPECT_OK(Supports(*cuda, covered));
  SbmProblem wide = covered;
  wide.head_dim = 129;
  EXPECT_THAT(Supports(*cuda, wide),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("head_dim 129")));
  SbmProblem many = covered;
  many.batch = 70000;
  EXPECT_THAT(Supports(*cuda, many),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("heads")));
}

INSTANTIATE_TEST_SUITE_P(Types, CudaSbmTest, ::testing::Values(DType::kF32, DType::kBf16),
                         NameOfType);

}  // namespace
}  // namespace weft::kernels::testing
