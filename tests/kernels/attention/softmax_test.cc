// Softmax attention: the reference against its definition, the fp32 tiles against the reference,
// and what both promise.
#include <gtest/gtest.h>

#include "tests/kernels/attention/softmax_testing.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

using ::testing::HasSubstr;
using weft::testing::StatusIs;

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

TEST(SoftmaxReferenceTest, EqualsTheDefinitionUnderEveryMask) {
  for (const SoftmaxProblem& problem : MaskedProblems()) {
    const SoftmaxInputs in = RandomSoftmax(problem);
    ForEachSoftmaxResult(
        [&](const char* what, const Values& got, const Values& want) {
          EXPECT_LE(MaxDifference(got, want), 1e-13) << what << " " << in.Name();
        },
        RunSoftmax(DeviceRun::Reference(), in), PlainSoftmax<double>::Run(in));
  }
}

TEST(SoftmaxReferenceTest, EqualsTheDefinitionWithPaddingAndDropout) {
  for (const SoftmaxProblem& problem : MaskedProblems()) {
    const SoftmaxInputs in = RandomSoftmax(problem);
    for (const SoftmaxInputs& changed : {Padded(in), Dropping(in), Dropping(Padded(in))}) {
      ForEachSoftmaxResult(
          [&](const char* what, const Values& got, const Values& want) {
            EXPECT_LE(MaxDifference(got, want), 1e-13) << what << " " << changed.Name();
          },
          RunSoftmax(DeviceRun::Reference(), changed), PlainSoftmax<double>::Run(changed));
    }
  }
}

double Loss(const SoftmaxInputs& in) {
  const Values o = RunSoftmax(DeviceRun::Reference(), in).o;
  double loss = 0.0;
  for (size_t i = 0; i < o.size(); ++i) loss += o[i] * in.d_o[i];
  return loss;
}

void ExpectDifferenceQuotients(SoftmaxInputs in) {
  const SoftmaxResults r = RunSoftmax(DeviceRun::Reference(), in);
  const auto check = [&](Values& x, const Values& gradient, const char* what) {
    ASSERT_EQ(x.size(), gradient.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const double kept = x[i];
      constexpr double step = 1e-6;
      x[i] = kept + step;
      const double above = Loss(in);
      x[i] = kept - step;
      const double below = Loss(in);
      x[i] = kept;
      // Rounding of the loss over the step, 1e-16 * 10 / 1e-6, is the largest part of the error.
      EXPECT_NEAR((above - below) / (2 * step), gradient[i], 1e-8) << what << i << " " << in.Name();
    }
  };
  check(in.q, r.d_q, "d_q");
  check(in.k, r.d_k, "d_k");
  check(in.v, r.d_v, "d_v");
}

TEST(SoftmaxReferenceTest, GradientsAreDifferenceQuotients) {
  const SoftmaxInputs in = RandomSoftmax(
      {.batch = 2, .queries = 4, .keys = 6, .heads = 4, .kv_heads = 2, .head_dim = 3, .window = 4});
  ExpectDifferenceQuotients(in);
  for (SoftmaxInputs changed : {Padded(in), Dropping(in), Dropping(Padded(in))}) {
    ExpectDifferenceQuotients(changed);
    changed.problem.causal = false;
    ExpectDifferenceQuotients(changed);
  }
}

// `size`: of what is rounded before it cancels. Gradients of logits are differences of d_o . v, of
// size one here; d_k takes them times q.
void ExpectAsExactAsPlainSoftmax(const SoftmaxInputs& in, double size = 1.0) {
  const SoftmaxResults got = RunSoftmax(DeviceRun::Cpu(), in);
  const SoftmaxResults plain = PlainSoftmax<float>::Run(in);
  const SoftmaxResults exact = RunSoftmax(DeviceRun::Reference(), in);
  ForEachSoftmaxResult(
      [&](const char* what, const Values& g, const Values& p, const Values& e) {
        if (absl::string_view(what) == "lse") return;
        const double terms = absl::string_view(what) == "d_k" ? size * MaxMagnitude(in.q) : size;
        ExpectAsExactAsPlain(g, p, e, absl::StrCat(what, " ", in.Name()), terms);
      },
      got, plain, exact);
  for (size_t i = 0; i < exact.lse.size(); ++i) {  // empty rows: -infinity on both sides
    if (std::isinf(exact.lse[i])) {
      EXPECT_EQ(got.lse[i], kMinusInfinity);
    } else {
      EXPECT_NEAR(got.lse[i], exact.lse[i], 1e-6 * (1.0 + std::abs(exact.lse[i]))) << in.Name();
    }
  }
}

TEST(SoftmaxCpuTest, EqualsTheReferenceUnderEveryMask) {
  for (const SoftmaxProblem& problem : MaskedProblems()) {
    ExpectAsExactAsPlainSoftmax(RandomSoftmax(problem));
  }
}

TEST(SoftmaxCpuTest, EqualsTheReferenceWithPaddingAndDropout) {
  for (const SoftmaxProblem& problem : MaskedProblems()) {
    const SoftmaxInputs in = RandomSoftmax(problem);
    for (const SoftmaxInputs& changed : {Padded(in), Dropping(Padded(in))}) {
      ExpectAsExactAsPlainSoftmax(changed);
    }
  }
}

TEST(SoftmaxCpuTest, HeadsOfEverySizeEqualTheReference) {
  for (const int64_t head_dim : {1, 7, 60, 100, 128}) {
    ExpectAsExactAsPlainSoftmax(RandomSoftmax({.batch = 2,
                                               .queries = 150,
                                               .keys = 150,
                                               .heads = 3,
                                               .kv_heads = 3,
                                               .head_dim = head_dim}));
  }
}

TEST(SoftmaxCpuTest, HeadsThatShareKeysEqualTheReference) {
  for (const int64_t kv_heads : {1, 2, 6}) {
    ExpectAsExactAsPlainSoftmax(RandomSoftmax({.batch = 2,
                                               .queries = 140,
                                               .keys = 270,
                                               .heads = 6,
                                               .kv_heads = kv_heads,
                                               .head_dim = 16,
                                               .window = 90}));
  }
}

TEST(SoftmaxCpuTest, LargeLogitsNeitherOverflowNorVanish) {
  // Logits of about +-300: exp of them alone is infinite or zero in fp32.
  const SoftmaxInputs in =
      RandomSoftmax({.queries = 300, .keys = 300, .head_dim = 32}, /*seed=*/4, /*spread=*/500.0);
  const double largest = MaxMagnitude(PlainSoftmax<double>::Run(in).lse);
  EXPECT_GT(largest, 200.0);
  // The backward pass takes exp(logit - lse), and lse is rounded.
  ExpectAsExactAsPlainSoftmax(in, largest);
}

struct Case {
  const char* name;
  DeviceRun (*run)();
};

class SoftmaxIdentityTest : public ::testing::TestWithParam<Case> {
 protected:
  [[nodiscard]] SoftmaxResults Run(const SoftmaxInputs& in) const {
    return RunSoftmax(GetParam().run(), in);
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, SoftmaxIdentityTest,
                         ::testing::Values(Case{"reference", [] { return DeviceRun::Reference(); }},
                                           Case{"cpu", [] { return DeviceRun::Cpu(); }}),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST_P(SoftmaxIdentityTest, AWindowOfEverythingIsNoWindow) {
  SoftmaxInputs in = RandomSoftmax({.queries = 150, .keys = 150, .head_dim = 8});
  const SoftmaxResults without = Run(in);
  for (const int64_t window : {int64_t{150}, int64_t{1} << 62}) {
    in.problem.window = window;
    ForEachSoftmaxResult([](const char* what, const Values& got,
                            const Values& want) { EXPECT_EQ(got, want) << what; },
                         Run(in), without);
  }
}

TEST_P(SoftmaxIdentityTest, AWindowOfOneReturnsTheValues) {
  const SoftmaxInputs in = RandomSoftmax({.queries = 150, .keys = 150, .head_dim = 8, .window = 1});
  const SoftmaxResults r = Run(in);
  EXPECT_LE(MaxDifference(r.o, in.v), 1e-6);
  EXPECT_LE(MaxDifference(r.d_v, in.d_o), 1e-6);
  EXPECT_LE(MaxMagnitude(r.d_q), 1e-6);
  EXPECT_LE(MaxMagnitude(r.d_k), 1e-6);
}

TEST_P(SoftmaxIdentityTest, WeightsSumToOne) {
  SoftmaxInputs in =
      RandomSoftmax({.queries = 280, .keys = 280, .head_dim = 8, .window = 100}, /*seed=*/2,
                    /*spread=*/30.0);
  std::fill(in.v.begin(), in.v.end(), 1.0);
  for (const double o : Run(in).o) EXPECT_NEAR(o, 1.0, 2e-6);
}

TEST_P(SoftmaxIdentityTest, AQueryWithoutKeysGivesZeroAndTakesNoGradient) {
  const SoftmaxInputs in = RandomSoftmax({.queries = 100, .keys = 30, .head_dim = 4});
  const SoftmaxResults r = Run(in);
  for (int64_t i = 0; i < 70; ++i) {
    EXPECT_EQ(r.lse[i], kMinusInfinity);
    for (int64_t d = 0; d < 4; ++d) {
      EXPECT_EQ(r.o[i * 4 + d], 0.0);
      EXPECT_EQ(r.d_q[i * 4 + d], 0.0);
    }
  }
  EXPECT_TRUE(std::isfinite(r.lse[70]));
  EXPECT_LE(MaxDifference(Values(r.o.begin() + 280, r.o.begin() + 284),
                          Values(in.v.begin(), in.v.begin() + 4)),
            1e-6);
}

TEST_P(SoftmaxIdentityTest, PaddingIsAsIfItWereNotThere) {
  SoftmaxInputs in = RandomSoftmax(
      {.queries = 20, .keys = 300, .heads = 2, .kv_heads = 2, .head_dim = 8, .causal = false});
  AddPadding(in, /*tail=*/150);
  SoftmaxInputs shorter = in;
  for (Values* values : {&shorter.k, &shorter.v}) {
    Values kept;
    for (int64_t j = 0; j < 300; ++j) {
      if (in.valid[j] == 0) continue;
      kept.insert(kept.end(), values->begin() + j * 16, values->begin() + (j + 1) * 16);
    }
    *values = kept;
  }
  shorter.problem.keys = static_cast<int64_t>(shorter.k.size()) / 16;
  shorter.valid.clear();
  const SoftmaxResults padded = Run(in);
  const SoftmaxResults without = Run(shorter);
  EXPECT_LE(MaxDifference(padded.o, without.o), 1e-6);
  EXPECT_LE(MaxDifference(padded.lse, without.lse), 1e-5);
  EXPECT_LE(MaxDifference(padded.d_q, without.d_q), 1e-6);
  for (int64_t x = 0; x < 300 * 16; ++x) {
    if (in.valid[x / 16] == 0) {
      EXPECT_EQ(padded.d_k[x], 0.0);
      EXPECT_EQ(padded.d_v[x], 0.0);
    }
  }
}

TEST_P(SoftmaxIdentityTest, NothingButPaddingGivesZero) {
  SoftmaxInputs in = RandomSoftmax({.queries = 200, .keys = 200, .head_dim = 4, .causal = false});
  in.valid.assign(200, 0);
  const SoftmaxResults r = Run(in);
  for (const double lse : r.lse) EXPECT_EQ(lse, kMinusInfinity);
  for (const Values& values : {r.o, r.d_q, r.d_k, r.d_v}) EXPECT_EQ(MaxMagnitude(values), 0.0);
}

// Dropout keeps its share of the weights, at the places that the counters say, whatever the batch
// around them.
TEST_P(SoftmaxIdentityTest, DropoutKeepsItsShareOfTheWeights) {
  constexpr int64_t keys = 333;
  SoftmaxInputs in = RandomSoftmax({.batch = 2,
                                    .queries = 40,
                                    .keys = keys,
                                    .heads = 2,
                                    .kv_heads = 2,
                                    .head_dim = keys,
                                    .causal = false});
  std::fill(in.q.begin(), in.q.end(), 0.0);   // all weights are 1 / keys
  for (size_t x = 0; x < in.v.size(); ++x) {  // and values are unit vectors
    in.v[x] = x / (2 * keys) % keys == x % keys ? 1.0 : 0.0;
  }
  in.problem.dropout = {.probability = 0.25, .seed = 8, .step = 1};
  const Values o = Run(in).o;
  int64_t kept = 0;
  for (const double weight : o) {
    if (weight == 0.0) continue;
    EXPECT_NEAR(weight, 1.0 / (keys * 0.75), 1e-7);
    ++kept;
  }
  // Five standard deviations.
  EXPECT_NEAR(static_cast<double>(kept) / static_cast<double>(o.size()), 0.75, 0.01);

  SoftmaxInputs second = in;  // the second sequence alone
  second.problem.batch = 1;
  second.problem.dropout.first_sequence = 1;
  for (Values* values : {&second.q, &second.k, &second.v, &second.d_o}) {
    values->erase(values->begin(), values->begin() + static_cast<int64_t>(values->size()) / 2);
  }
  EXPECT_EQ(Run(second).o, Values(o.begin() + static_cast<int64_t>(o.size()) / 2, o.end()));
  second.problem.dropout.step = 2;
  EXPECT_NE(Run(second).o, Values(o.begin() + static_cast<int64_t>(o.size()) / 2, o.end()));
}

TEST_P(SoftmaxIdentityTest, OneQueryAtATimeEqualsTheWholeSequence) {
  const SoftmaxInputs in = RandomSoftmax(
      {.queries = 140, .keys = 140, .heads = 2, .kv_heads = 1, .head_dim = 8, .window = 60});
  const Values whole = Run(in).o;
  for (const int64_t t : {0, 1, 59, 60, 127, 128, 139}) {
    SoftmaxInputs step = in;
    step.problem.queries = 1;
    step.problem.keys = t + 1;
    step.q = Values(in.q.begin() + t * 16, in.q.begin() + (t + 1) * 16);
    step.d_o = step.q;
    step.k.resize((t + 1) * 8);
    step.v.resize((t + 1) * 8);
    EXPECT_LE(
        MaxDifference(Run(step).o, Values(whole.begin() + t * 16, whole.begin() + (t + 1) * 16)),
        1e-6)
        << t;
  }
}

TEST_P(SoftmaxIdentityTest, ALaterTokenChangesNoEarlierBit) {
  const SoftmaxInputs in =
      RandomSoftmax({.queries = 300, .keys = 300, .heads = 2, .kv_heads = 2, .head_dim = 12});
  const Values before = Run(in).o;
  for (const int64_t t : {1, 127, 128, 200, 256, 299}) {
    SoftmaxInputs changed = in;
    for (Values* values : {&changed.q, &changed.k, &changed.v}) {
      for (int64_t i = 0; i < 24; ++i) (*values)[t * 24 + i] = 5.0 - (*values)[t * 24 + i];
    }
    const Values after = Run(changed).o;
    EXPECT_TRUE(std::equal(before.begin(), before.begin() + t * 24, after.begin())) << t;
    EXPECT_FALSE(std::equal(before.begin() + t * 24, before.end(), after.begin() + t * 24)) << t;
  }
}

void ExpectEqualBits(const SoftmaxInputs& in) {
  const SoftmaxResults once = RunSoftmax(DeviceRun::Cpu(1), in);
  for (const int threads : {1, 2, 3}) {
    ForEachSoftmaxResult(
        [&](const char* what, const Values& got, const Values& want) {
          EXPECT_EQ(got, want) << what << " with " << threads << " threads";
        },
        RunSoftmax(DeviceRun::Cpu(threads), in), once);
  }
}

TEST(SoftmaxCpuTest, BitsDependOnNeitherThreadsNorTheRun) {
  const SoftmaxInputs in = RandomSoftmax(
      {.batch = 2, .queries = 600, .keys = 600, .heads = 4, .kv_heads = 2, .head_dim = 20});
  ExpectEqualBits(in);
  ExpectEqualBits(Dropping(Padded(in)));
}

TEST(SoftmaxContractTest, RefusesMalformedProblems) {
  DeviceRun run = DeviceRun::Cpu();
  const SoftmaxProblem good{.queries = 2, .keys = 3, .heads = 4, .kv_heads = 2, .head_dim = 5};
  EXPECT_OK(Supports(run.device(), good));
  const auto refused = [&](auto change, const char* complaint) {
    SoftmaxProblem bad = good;
    change(bad);
    EXPECT_THAT(Supports(run.device(), bad),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(complaint)));
  };
  refused([](SoftmaxProblem& p) { p.queries = -1; }, "queries -1");
  refused([](SoftmaxProblem& p) { p.head_dim = 0; }, "head_dim 0");
  refused([](SoftmaxProblem& p) { p.kv_heads = 3; }, "kv_heads 3 does not divide heads 4");
  refused([](SoftmaxProblem& p) { p.window = -1; }, "window -1");
  refused([](SoftmaxProblem& p) { p.scale = 0.0; }, "scale 0");
  refused([](SoftmaxProblem& p) { p.scale = std::nan(""); }, "scale nan");
  refused([](SoftmaxProblem& p) { p.dropout.probability = 1.0; }, "dropout 1 is not in [0, 1)");
}

TEST(SoftmaxContractTest, NamesTheOperandThatDoesNotFit) {
  DeviceRun run = DeviceRun::Cpu();
  const SoftmaxProblem problem{.queries = 2, .keys = 3, .heads = 4, .kv_heads = 2, .head_dim = 5};
  const Tensor q = run.New({1, 2, 4, 5});
  const Tensor k = run.New({1, 3, 2, 5});
  Tensor o = run.New({1, 2, 4, 5});
  Tensor lse = run.New({1, 4, 2});
  EXPECT_OK(SoftmaxForward(run.stream(), problem, q, k, k, Tensor(), o, lse));
  EXPECT_THAT(
      SoftmaxForward(run.stream(), problem, q, q, k, Tensor(), o, lse),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("SoftmaxForward: k is f32[1, 2, 4, 5], expected f32[1, 3, 2, 5]")));
  EXPECT_THAT(
      SoftmaxForward(run.stream(), problem, q, k, Tensor(), Tensor(), o, lse),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("SoftmaxForward: v is absent")));
}

}  // namespace
}  // namespace weft::kernels::testing
