// The chunked fp32 delta rule against the fp64 recurrence, and what it promises about bits.
#include <gtest/gtest.h>

#include "kernels/attention/delta/cpu/chunk_solve.h"
#include "tests/kernels/attention/delta_testing.h"
#include "tests/kernels/attention/plain_chunks.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

using ::testing::HasSubstr;
using weft::testing::StatusIs;

void ExpectAsExactAsPlainDelta(const DeltaInputs& in) {
  ForEachDeltaResult(
      [&](const char* what, const Values& got, const Values& plain, const Values& exact) {
        ExpectAsExactAsPlain(got, plain, exact, absl::StrCat(what, " ", in.Name()));
      },
      RunDelta(DeviceRun::Cpu(), in), PlainChunks<float>::Run(in),
      RunDelta(DeviceRun::Reference(), in));
}

TEST(DeltaCpuTest, ChunksOfEverySizeEqualTheRecurrence) {
  for (const int64_t chunk : {1, 7, 16, 64, 100}) {
    for (const int64_t tokens : {1, 63, 64, 65, 200}) {
      for (const bool with_states : {false, true}) {
        ExpectAsExactAsPlainDelta(RandomDelta(
            {.tokens = tokens, .heads = 2, .key_dim = 16, .value_dim = 24, .chunk = chunk},
            with_states));
      }
    }
  }
}

TEST(DeltaCpuTest, HeadsOfEverySizeEqualTheRecurrence) {
  for (const int64_t key_dim : {1, 7, 60, 100, 128}) {
    for (const int64_t value_dim : {1, 60, 128}) {
      ExpectAsExactAsPlainDelta(
          RandomDelta({.batch = 2, .tokens = 70, .key_dim = key_dim, .value_dim = value_dim},
                      /*with_states=*/true));
    }
  }
}

TEST(DeltaCpuTest, NegativeEigenvaluesEqualTheRecurrence) {
  ExpectAsExactAsPlainDelta(RandomDelta({.tokens = 200, .key_dim = 32, .value_dim = 32},
                                        /*with_states=*/true, /*seed=*/9, /*largest_beta=*/2.0));
}

// Keys with pairwise correlation rho, as trained heads emit them.
DeltaInputs Correlated(int64_t tokens, int64_t dim, double rho, double beta) {
  DeltaInputs in = RandomDelta({.tokens = tokens, .key_dim = dim, .value_dim = dim},
                               /*with_states=*/false, /*seed=*/11);
  NumberStream numbers(12);
  Values shared = numbers.Symmetric(dim);
  NormalizeRows(shared, dim);
  for (size_t i = 0; i < in.k.size(); ++i) {
    in.k[i] = std::sqrt(1 - rho) * in.k[i] + std::sqrt(rho) * shared[i % dim];
  }
  NormalizeRows(in.k, dim, /*epsilon=*/0.0);
  RoundToFloat(in.k);
  std::fill(in.beta.begin(), in.beta.end(), beta);
  return in;
}

TEST(DeltaCpuTest, NearlyParallelKeysEqualTheRecurrence) {
  for (const double rho : {0.9, 0.99, 1.0}) {
    for (const double beta : {0.5, 1.0, 1.9}) {
      SCOPED_TRACE(absl::StrCat("rho ", rho, " beta ", beta));
      ExpectAsExactAsPlainDelta(Correlated(300, 64, rho, beta));
    }
  }
}

TEST(DeltaCpuTest, StaysExactOverSixtyFiveThousandTokens) {
  for (const double beta : {0.98, 1.9}) {
    const DeltaInputs in = Correlated(65536, 16, 0.99, beta);
    ForEachDeltaResult(
        [&](const char* what, const Values& got, const Values& exact) {
          // The states that the backward pass unrolls have lost 1e-6 of their size at the far end.
          EXPECT_LE(RootMeanSquareDifference(got, exact), 2e-5 * RootMeanSquare(exact))
              << what << " beta " << beta;
        },
        RunDelta(DeviceRun::Cpu(), in), RunDelta(DeviceRun::Reference(), in));
  }
}

TEST(DeltaCpuTest, BitsDependOnNeitherThreadsNorTheRun) {
  const DeltaInputs in =
      RandomDelta({.batch = 2, .tokens = 150, .heads = 3, .key_dim = 40, .value_dim = 24},
                  /*with_states=*/true);
  const DeltaResults once = RunDelta(DeviceRun::Cpu(1), in);
  for (const int threads : {1, 2, 3}) {
    ForEachDeltaResult(
        [&](const char* what, const Values& got, const Values& want) {
          EXPECT_EQ(got, want) << what << " with " << threads << " threads";
        },
        RunDelta(DeviceRun::Cpu(threads), in), once);
  }
}

TEST(DeltaCpuTest, ALaterTokenChangesNoEarlierBit) {
  const DeltaInputs in = RandomDelta({.tokens = 130, .heads = 2, .key_dim = 24, .value_dim = 20},
                                     /*with_states=*/true);
  const Values before = RunDelta(DeviceRun::Cpu(), in).o;
  for (const int64_t t : {1, 62, 64, 70, 129}) {
    DeltaInputs changed = in;
    for (Values* values : {&changed.q, &changed.k}) {
      for (int64_t i = 0; i < 48; ++i) (*values)[t * 48 + i] *= -0.75;
    }
    for (int64_t i = 0; i < 40; ++i) changed.v[t * 40 + i] += 3.0;
    changed.beta[t * 2] = 0.125;
    const Values after = RunDelta(DeviceRun::Cpu(), changed).o;
    EXPECT_TRUE(std::equal(before.begin(), before.begin() + t * 40, after.begin())) << t;
    EXPECT_FALSE(std::equal(before.begin() + t * 40, before.end(), after.begin() + t * 40)) << t;
  }
}

TEST(DeltaCpuTest, DecodingTokenByTokenInPlaceEqualsTheWholeSequence) {
  const DeltaInputs in =
      RandomDelta({.batch = 2, .tokens = 70, .heads = 2, .key_dim = 32, .value_dim = 16},
                  /*with_states=*/true);
  const DeltaResults exact = RunDelta(DeviceRun::Reference(), in);
  DeviceRun run = DeviceRun::Cpu();
  const auto row = [&](const Values& values, int64_t t, int64_t width) {
    Values picked;
    for (int64_t b = 0; b < 2; ++b) {
      const auto first = values.begin() + (b * 70 + t) * 2 * width;
      picked.insert(picked.end(), first, first + 2 * width);
    }
    return picked;
  };
  DeltaProblem step = in.problem;
  step.tokens = 1;
  Tensor state = run.Upload(in.s0, in.StateShape());
  Tensor o = run.New({2, 1, 2, 16});
  DeltaSaved none;
  Values got;
  Values want;
  for (int64_t t = 0; t < 70; ++t) {
    ASSERT_OK(DeltaForward(run.stream(), step, run.Upload(row(in.q, t, 32), {2, 1, 2, 32}),
                           run.Upload(row(in.k, t, 32), {2, 1, 2, 32}),
                           run.Upload(row(in.v, t, 16), {2, 1, 2, 16}),
                           run.Upload(row(in.beta, t, 1), {2, 1, 2}), state, o, state, none));
    for (const double value : run.Download(o)) got.push_back(value);
    for (const double value : row(exact.o, t, 16)) want.push_back(value);
  }
  EXPECT_LE(MaxDifference(got, want), 2e-6);  // 70 updates of a state of size one
  EXPECT_LE(MaxDifference(run.Download(state), exact.s), 4e-6);
}

TEST(DeltaCpuTest, TheSolutionOfTheTriangularSystemIsBounded) {
  constexpr int64_t rows = 50;
  constexpr int64_t dim = 20;
  const DeltaInputs in = Correlated(rows, dim, 0.9, 1.0);
  std::vector<float> g(rows * rows);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < rows; ++j) {
      double dot = 0.0;
      for (int64_t d = 0; d < dim; ++d) dot += in.k[i * dim + d] * in.k[j * dim + d];
      g[i * rows + j] = static_cast<float>(dot);
    }
  }
  std::vector<float> beta(rows);
  for (int64_t i = 0; i < rows; ++i) beta[i] = 0.5F + 0.01F * static_cast<float>(i);
  const ChunkSystem system{
      VectorTableFor(BestInstructionSet()), g.data(), rows, beta.data(), rows, rows};
  std::vector<float> unit(rows * rows, 0.0F);
  for (int64_t i = 0; i < rows; ++i) unit[i * rows + i] = 1.0F;

  // E = (I + G diag(beta))^-1, N = diag(beta) E, and |N_ij| <= beta_i beta_j beside the diagonal.
  std::vector<float> e = unit;
  std::vector<float> n(rows * rows);
  SolveErrors(system, e.data(), n.data());
  // Y = (I + diag(beta) G)^-T: the transposed system with the transposed right-hand side.
  std::vector<float> y = unit;
  std::vector<float> minus_dx(rows * rows);
  SolveErrorGradients(system, y.data(), minus_dx.data());
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < rows; ++j) {
      const float bound = i == j ? beta[i] : beta[i] * beta[j];
      EXPECT_LE(std::abs(n[i * rows + j]), bound * (1.0F + 1e-6F));
      // diag(beta) (I + G diag(beta))^-1 is the transpose of diag(beta) (I + G^T diag(beta))^-1.
      EXPECT_NEAR(n[i * rows + j], -minus_dx[j * rows + i], 1e-6);
      double product = e[i * rows + j];
      for (int64_t l = 0; l < i; ++l) product += g[i * rows + l] * n[l * rows + j];
      EXPECT_NEAR(product, i == j ? 1.0 : 0.0, 1e-5);
    }
  }
}

class DeltaContractTest : public ::testing::Test {
 protected:
  absl::Status Forward(const DeltaProblem& problem) {
    DeltaSaved none;
    Tensor no_state;
    return DeltaForward(run_.stream(), problem, q_, k_, v_, beta_, Tensor(), o_, no_state, none);
  }

  DeviceRun run_ = DeviceRun::Cpu();
  const DeltaProblem problem_{.tokens = 3, .heads = 2, .key_dim = 4, .value_dim = 5};
  Tensor q_ = run_.New({1, 3, 2, 4});
  Tensor k_ = run_.New({1, 3, 2, 4});
  Tensor v_ = run_.New({1, 3, 2, 5});
  Tensor beta_ = run_.New({1, 3, 2});
  Tensor o_ = run_.New({1, 3, 2, 5});
};

TEST_F(DeltaContractTest, RefusesMalformedProblems) {
  EXPECT_OK(Supports(run_.device(), problem_));
  for (const auto field : {&DeltaProblem::batch, &DeltaProblem::heads, &DeltaProblem::key_dim,
                           &DeltaProblem::value_dim, &DeltaProblem::chunk}) {
    DeltaProblem bad = problem_;
    bad.*field = 0;
    EXPECT_THAT(Supports(run_.device(), bad), StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(Forward(bad), StatusIs(absl::StatusCode::kInvalidArgument));
  }
  DeltaProblem long_chunk = problem_;
  long_chunk.chunk = kMaxDeltaChunk + 1;
  EXPECT_THAT(Supports(run_.device(), long_chunk),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("chunk 257")));
}

TEST_F(DeltaContractTest, NamesTheOperandThatDoesNotFit) {
  EXPECT_OK(Forward(problem_));
  beta_ = run_.New({1, 2, 3});
  EXPECT_THAT(Forward(problem_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("DeltaForward: beta is f32[1, 2, 3], expected f32[1, 3, 2]")));
  beta_ = Tensor();
  EXPECT_THAT(Forward(problem_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("beta is absent")));
  DeviceRun other = DeviceRun::Cpu();
  beta_ = other.New({1, 3, 2});
  EXPECT_THAT(Forward(problem_), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("on the device of the stream")));
}

}  // namespace
}  // namespace weft::kernels::testing
