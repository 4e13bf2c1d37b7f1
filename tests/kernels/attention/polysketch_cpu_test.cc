// Polynomial attention on the CPU device: as exact as plain loops in the same precision, for all
// kinds of weights and odd shapes; bits that depend on nothing but operands; what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/kernels/attention/plain_polysketch.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

using ::testing::HasSubstr;
using weft::testing::StatusIs;

void ExpectAsExactAsPlainLoops(const PolysketchData& in) {
  const PolysketchResults exact = RunPolysketch(DeviceRun::Reference(), in);
  const PolysketchResults plain = PlainPolysketch<float>::Run(in);
  const PolysketchResults got = RunPolysketch(DeviceRun::Cpu(), in);
  ForEachPolysketchResult(
      [&](const char* what, const Values& g, const Values& p, const Values& e) {
        ExpectAsExactAsPlain(g, p, e, absl::StrCat(what, " of ", in.Name()));
      },
      got, plain, exact);
}

TEST(PolysketchReferenceTest, EqualsTheTextbookLoops) {
  for (const PolysketchProblem& problem : OddProblems()) {
    for (const bool with_states : {false, true}) {
      const PolysketchData in = RandomPolysketch(problem, with_states);
      ForEachPolysketchResult(
          [&](const char* what, const Values& got, const Values& want) {
            EXPECT_LE(MaxDifference(got, want), 1e-11 * (1 + MaxMagnitude(want)))
                << what << " of " << in.Name();
          },
          RunPolysketch(DeviceRun::Reference(), in), PlainPolysketch<double>::Run(in));
    }
  }
}

TEST(PolysketchCpuTest, IsAsExactAsPlainLoops) {
  for (const PolysketchProblem& problem : OddProblems()) {
    for (const bool with_states : {false, true}) {
      ExpectAsExactAsPlainLoops(RandomPolysketch(problem, with_states, 2));
    }
  }
}

TEST(PolysketchCpuTest, IsAsExactAsPlainLoopsWithPadding) {
  for (const PolysketchProblem& problem : OddProblems()) {
    PolysketchData in = RandomPolysketch(problem, /*with_states=*/true, 3);
    AddPadding(in);
    ExpectAsExactAsPlainLoops(in);
  }
}

TEST(PolysketchCpuTest, BitsDoNotDependOnThreads) {
  for (const PolysketchProblem& problem : OddProblems()) {
    PolysketchData in = RandomPolysketch(problem, /*with_states=*/true, 4);
    AddPadding(in);
    const PolysketchResults one = RunPolysketch(DeviceRun::Cpu(1), in);
    for (const int threads : {2, 3}) {
      ForEachPolysketchResult(
          [&](const char* what, const Values& a, const Values& b) {
            EXPECT_EQ(a, b) << what << " of " << in.Name() << " with " << threads << " threads";
          },
          one, RunPolysketch(DeviceRun::Cpu(threads), in));
    }
  }
}

// ---- What is refused

void ExpectRefused(const PolysketchProblem& problem, const char* complaint) {
  DeviceRun run = DeviceRun::Cpu(1);
  EXPECT_THAT(Supports(run.device(), problem),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(complaint)));
}

TEST(PolysketchContractTest, NamesWhatIsWrongWithAProblem) {
  const PolysketchProblem good = {.queries = 4, .keys = 4, .head_dim = 2, .sketch_dim = 2};
  DeviceRun run = DeviceRun::Cpu(1);
  EXPECT_OK(Supports(run.device(), good));
  PolysketchProblem bad = good;
  bad.heads = 0;
  ExpectRefused(bad, "heads 0");
  bad = good;
  bad.sketch_dim = 0;
  ExpectRefused(bad, "sketch_dim is 0, expected at least 1");
  bad = good;
  bad.weights = PolysketchWeights::kExact;
  ExpectRefused(bad, "sketch_dim is 2, expected 0");
  bad = good;
  bad.degree = 3;
  ExpectRefused(bad, "degree is 3, expected 2, 4 or 8");
  bad = good;
  bad.block = 0;
  ExpectRefused(bad, "block is 0");
  bad = good;
  bad.queries = 5;
  ExpectRefused(bad, "5 queries and 4 keys");
  bad = good;
  bad.causal = false;
  ExpectRefused(bad, "mixed weights are defined for causal problems");
  bad = good;
  bad.c0 = -1;
  ExpectRefused(bad, "c0 is -1");
  bad = good;
  bad.kappa = 0;
  ExpectRefused(bad, "kappa 0");
}

TEST(PolysketchContractTest, NamesTheOperandThatIsWrong) {
  DeviceRun run = DeviceRun::Cpu(1);
  const PolysketchData in = RandomPolysketch({.weights = PolysketchWeights::kSketched,
                                              .queries = 4,
                                              .keys = 4,
                                              .head_dim = 2,
                                              .sketch_dim = 3});
  const PolysketchOnDevice on(run, in);
  Tensor o = run.New(on.d_o.shape());
  PolysketchState nothing;
  PolysketchSaved unsaved;
  const auto forward = [&](const PolysketchProblem& problem, const PolysketchInputs& inputs,
                           const PolysketchState& initial) {
    return PolysketchForward(run.stream(), problem, inputs, initial, o, nothing, unsaved);
  };
  const auto refused = [](const char* complaint) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(complaint));
  };
  PolysketchInputs inputs = on.inputs;
  inputs.phi_k = on.inputs.v;
  EXPECT_THAT(forward(in.problem, inputs, {}), refused("phi_k is f32[1, 4, 1, 2]"));
  inputs = on.inputs;
  inputs.q = on.inputs.v;
  EXPECT_THAT(forward(in.problem, inputs, {}), refused("q has no part in this problem"));
  inputs = on.inputs;
  inputs.valid = on.inputs.v;
  EXPECT_THAT(forward(in.problem, inputs, {}), refused("valid is f32"));
  PolysketchState half;
  half.values = run.New(in.ValuesShape());
  EXPECT_THAT(forward(in.problem, on.inputs, half), refused("initial.mass is absent"));
  half.mass = run.New(in.MassShape());
  EXPECT_OK(forward(in.problem, on.inputs, half));
  PolysketchProblem whole = in.problem;
  whole.causal = false;
  EXPECT_THAT(forward(whole, on.inputs, half), refused("initial has no part in this problem"));
}

}  // namespace
}  // namespace weft::kernels::testing
