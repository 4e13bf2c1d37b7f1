// The delta rule against numbers computed elsewhere and against its own definition by differences.
#include <gtest/gtest.h>

#include "tests/kernels/attention/delta_testing.h"

namespace weft::kernels::testing {
namespace {

void ExpectNear(const Values& got, const Values& want, double tolerance, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], tolerance) << what << i;
}

// Four tokens, two channels, exact decimals.
DeltaInputs FourTokens() {
  return {.problem = {.batch = 1, .tokens = 4, .heads = 1, .key_dim = 2, .value_dim = 2},
          .q = {1, 0, 0, 1, .6, .8, .8, -.6},
          .k = {1, 0, .6, .8, 0, 1, 1, 0},
          .v = {1, 2, 3, 4, -1, 1, 2, -2},
          .beta = {.5, 1, .25, 1},
          .s0 = {1, 0, 0, -1},
          .d_o = {1, -1, 0, 2, 1, 1, -1, .5},
          .d_s = {.5, 0, 1, -1}};
}

void ExpectFourTokens(const DeltaResults& r, double tolerance) {
  ExpectNear(r.o, {1, 1, 1.92, 2.36, 2.416, 3.728, .886, -2.812}, tolerance, "o");
  ExpectNear(r.s, {2, -2, 1.19, 2.02}, tolerance, "s");
  ExpectNear(r.d_q, {0, 1, 7.04, 4.72, 5.96, 3.21, -3, -.18}, tolerance, "d_q");
  ExpectNear(r.d_k, {-1.656, -.401, .5, 12.805, -1.666, -2.439, -2.752, 6.021}, tolerance, "d_k");
  ExpectNear(r.d_v, {.26, -.698, 1.8, 1.66, .6, -.125, -.3, .4}, tolerance, "d_v");
  ExpectNear(r.d_beta, {-2.792, 11.292, -6.328, -2.076}, tolerance, "d_beta");
  ExpectNear(r.d_s0, {.26, -.698, .36, .297}, tolerance, "d_s0");
}

TEST(DeltaGoldenTest, FourTokensOnTheReference) {
  ExpectFourTokens(RunDelta(DeviceRun::Reference(), FourTokens()), 1e-14);
}

TEST(DeltaGoldenTest, FourTokensOnTheCpuInChunksOfEverySize) {
  for (const int64_t chunk : {1, 2, 3, 4, 64}) {
    DeltaInputs in = FourTokens();
    in.problem.chunk = chunk;
    ExpectFourTokens(RunDelta(DeviceRun::Cpu(), in), 4e-6);  // some ulp of 12.8
  }
}

// sum, sum of squares, sum weighted by cos(i mod 97), first, last.
struct Digest {
  double sum, squares, weighted, first, last;
};

Digest DigestOf(const Values& x) {
  Digest digest{0, 0, 0, x.front(), x.back()};
  for (size_t i = 0; i < x.size(); ++i) {
    digest.sum += x[i];
    digest.squares += x[i] * x[i];
    digest.weighted += x[i] * std::cos(static_cast<double>(i % 97));
  }
  return digest;
}

struct GoldenStream {
  int64_t tokens;
  int64_t width;
  uint32_t seed;
  Digest o, s, d_q, d_k, d_v, d_beta, d_s0;
};

const GoldenStream kSmall{
    100,
    8,
    1,
    {-3.1860673009, 15.2959412962, 2.5266654826, -0.2311080973, -0.2133864231},
    {-3.7161552716, 9.6709091993, 2.9013675555, -0.1226636890, 0.6381529455},
    {-1.6332969986, 41.9429676173, -5.0894758822, -0.0015760730, 0.2067721612},
    {12.5685766101, 114.2635555323, 13.7228697011, -0.8482303705, 0.3269908851},
    {0.1769258424, 25.1594734632, 1.8171970092, 0.0753859651, -0.0815929851},
    {-1.4533940826, 25.1055913202, 5.1457606556, 1.0905078169, -0.0224476614},
    {-2.7037320151, 3.1116323817, 0.7586612584, 0.3453250582, 0.1153919835}};

const GoldenStream kLarge{
    200,
    128,
    7,
    {7.1674426756, 53.6470480421, -6.4648012460, -0.0370419319, -0.0089887164},
    {-48.7873421199, 3700.8863085100, 26.7415921596, -0.2539158818, 0.2842811184},
    {-43.9816680618, 2301.8414685469, -29.3490039224, -0.0776050106, 0.1664398003},
    {-57.1187817320, 198899.8946683608, -312.0431907073, -1.3501570270, 2.3460523924},
    {-29.1993257165, 1874.2670757316, 35.6705233543, -0.0460617018, -0.6471167905},
    {-33.8750407170, 2970.7953600395, -23.3784263445, 1.8731891772, -5.0577473300},
    {97.4622704065, 1917.1404235944, -9.8681282045, -0.5913568801, 0.4857068241}};

DeltaInputs InputsOf(const GoldenStream& golden) {
  const int64_t n = golden.tokens;
  const int64_t d = golden.width;
  NumberStream numbers(golden.seed);
  DeltaInputs in{.problem = {.tokens = n, .key_dim = d, .value_dim = d}};
  in.q = numbers.Symmetric(n * d);
  in.k = numbers.Symmetric(n * d);
  in.v = numbers.Symmetric(n * d);
  in.beta = numbers.Uniform(n);
  in.s0 = numbers.Symmetric(d * d);
  in.d_o = numbers.Symmetric(n * d);
  in.d_s = numbers.Symmetric(d * d);
  NormalizeRows(in.q, d);
  NormalizeRows(in.k, d);
  for (double& q : in.q) q /= std::sqrt(static_cast<double>(d));
  return in;
}

// `relative` bounds the error of a single element by the size of its array, and of a sum by what
// that means for all of them.
void ExpectDigest(const Values& got, const Digest& want, double relative, const char* what) {
  const Digest digest = DigestOf(got);
  const double element = relative * MaxMagnitude(got) + 1e-10;  // 10 decimals are printed
  const double all = element * std::sqrt(static_cast<double>(got.size()));
  EXPECT_NEAR(digest.sum, want.sum, all) << what;
  EXPECT_NEAR(digest.squares, want.squares, relative * want.squares + 1e-10) << what;
  EXPECT_NEAR(digest.weighted, want.weighted, all) << what;
  EXPECT_NEAR(digest.first, want.first, element) << what;
  EXPECT_NEAR(digest.last, want.last, element) << what;
}

void ExpectGolden(DeltaResults r, const GoldenStream& golden, double relative) {
  // The printed gradient is that of the normalised, unscaled query.
  for (double& d_q : r.d_q) d_q /= std::sqrt(static_cast<double>(golden.width));
  ExpectDigest(r.o, golden.o, relative, "o");
  ExpectDigest(r.s, golden.s, relative, "s");
  ExpectDigest(r.d_q, golden.d_q, relative, "d_q");
  ExpectDigest(r.d_k, golden.d_k, relative, "d_k");
  ExpectDigest(r.d_v, golden.d_v, relative, "d_v");
  ExpectDigest(r.d_beta, golden.d_beta, relative, "d_beta");
  ExpectDigest(r.d_s0, golden.d_s0, relative, "d_s0");
}

TEST(DeltaGoldenTest, StreamsOnTheReference) {
  for (const GoldenStream& golden : {kSmall, kLarge}) {
    SCOPED_TRACE(golden.width);
    ExpectGolden(RunDelta(DeviceRun::Reference(), InputsOf(golden)), golden, 1e-11);
  }
}

TEST(DeltaGoldenTest, StreamsOnTheCpu) {
  for (const GoldenStream& golden : {kSmall, kLarge}) {
    SCOPED_TRACE(golden.width);
    // 200 dependent updates of 2^-24 each, at worst.
    ExpectGolden(RunDelta(DeviceRun::Cpu(), InputsOf(golden)), golden, 200 * 6e-8);
  }
}

// sum(o . d_o) + sum(s . d_s): the function whose gradients the backward pass returns.
double Loss(const DeltaInputs& in) {
  const DeltaResults r = RunDelta(DeviceRun::Reference(), in);
  double loss = 0.0;
  for (size_t i = 0; i < r.o.size(); ++i) loss += r.o[i] * in.d_o[i];
  for (size_t i = 0; i < r.s.size(); ++i) loss += r.s[i] * in.d_s[i];
  return loss;
}

TEST(DeltaGoldenTest, ReferenceGradientsAreDifferenceQuotients) {
  DeltaInputs in = RandomDelta({.batch = 2, .tokens = 5, .heads = 2, .key_dim = 3, .value_dim = 4},
                               /*with_states=*/true);
  const DeltaResults r = RunDelta(DeviceRun::Reference(), in);
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
      EXPECT_NEAR((above - below) / (2 * step), gradient[i], 1e-8) << what << i;
    }
  };
  check(in.q, r.d_q, "d_q");
  check(in.k, r.d_k, "d_k");
  check(in.v, r.d_v, "d_v");
  check(in.beta, r.d_beta, "d_beta");
  check(in.s0, r.d_s0, "d_s0");
}

TEST(DeltaGoldenTest, ReferenceAgreesWithARecurrenceThatKeepsItsStates) {
  for (const bool with_states : {false, true}) {
    const DeltaInputs in =
        RandomDelta({.batch = 2, .tokens = 65, .heads = 3, .key_dim = 7, .value_dim = 5},
                    with_states, /*seed=*/3, /*largest_beta=*/2.0);
    ForEachDeltaResult(
        [](const char* what, const Values& got, const Values& want) {
          EXPECT_LE(MaxDifference(got, want), 1e-12 * (1.0 + MaxMagnitude(want))) << what;
        },
        RunDelta(DeviceRun::Reference(), in), PlainDelta<double>::Run(in));
  }
}

}  // namespace
}  // namespace weft::kernels::testing
