// Random and learned sketches: recorded numbers, what their dot products stand for, gradients, the
// CPU against fp64, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "kernels/random/philox.h"
#include "tests/kernels/attention/sketch_testing.h"
#include "tests/testing/status_matchers.h"

namespace weft::kernels::testing {
namespace {

using ::testing::HasSubstr;
using weft::testing::StatusIs;

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// ---- Random sketches

constexpr int64_t kInputs = 8;

// Statistics of phi(x) . phi(y) over many draws.
struct Moments {
  double mean = 0.0;
  double square = 0.0;
};

Moments MomentsOf(const RandomSketchProblem& problem, SketchMatrices kind, const Values& x,
                  const Values& y, int draws) {
  Moments moments;
  RandomSketchData in{.problem = problem, .rows = 2};
  in.x = x;
  in.x.insert(in.x.end(), y.begin(), y.end());
  in.d_phi.assign(2 * problem.sketch_dim, 0.0);
  for (int draw = 0; draw < draws; ++draw) {
    in.matrices = DrawRandomSketch(static_cast<uint64_t>(draw), 3, problem, kind);
    const Values phi = RunRandomSketch(DeviceRun::Reference(), in).phi;
    const double product = Dot(phi.data(), phi.data() + problem.sketch_dim, problem.sketch_dim);
    moments.mean += product / draws;
    moments.square += product * product / draws;
  }
  return moments;
}

// Two vectors of some length at some angle.
std::pair<Values, Values> TwoVectors() {
  NumberStream numbers(9);
  Values x = numbers.Symmetric(kInputs);
  Values y = numbers.Symmetric(kInputs);
  for (int64_t i = 0; i < kInputs; ++i) y[i] = 0.6 * y[i] + x[i];
  return {x, y};
}

// E X = c^2 and E X^2 = c^4 + ((|x|^2 |y|^2 + 2 c^2)^2 - c^4) / r, c = x . y.
TEST(RandomSketchTest, HasTheMeanAndTheBiasOfDegreeFour) {
  const auto [x, y] = TwoVectors();
  const RandomSketchProblem problem{.input_dim = kInputs, .sketch_dim = 16, .degree = 4};
  const Moments got = MomentsOf(problem, SketchMatrices::kGaussian, x, y, 20000);
  const double c = Dot(x.data(), y.data(), kInputs);
  const double norms = Dot(x.data(), x.data(), kInputs) * Dot(y.data(), y.data(), kInputs);
  const double square = std::pow(c, 4) + (std::pow(norms + 2 * c * c, 2) - std::pow(c, 4)) / 16;
  EXPECT_NEAR(got.mean / (c * c), 1.0, 0.03);
  EXPECT_NEAR(got.square / square, 1.0, 0.03);
  EXPECT_GT(square, 1.2 * std::pow(c, 4));  // the bias is no rounding
}

TEST(RandomSketchTest, HasTheMeanOfDegreeEight) {
  const auto [x, y] = TwoVectors();
  const RandomSketchProblem problem{.input_dim = kInputs, .sketch_dim = 64, .degree = 8};
  const Moments got = MomentsOf(problem, SketchMatrices::kGaussian, x, y, 4000);
  EXPECT_NEAR(got.mean / std::pow(Dot(x.data(), y.data(), kInputs), 4), 1.0, 0.05);
}

// Layer-normed vectors of 64 channels in random directions: weights of degree 4 are 1.23e4 in the
// mean, but their estimates 5.7e5 and 2.9e5, which is why random sketches blur attention. (Over the
// directions, c^2 = 64^2 / 63 and c^4 = 3 * 64^4 / (63 * 65) in the formula above.)
TEST(RandomSketchTest, BlursAttentionByItsSize) {
  constexpr int64_t kWidth = 64;
  constexpr int64_t kVectors = 64;  // of each side
  for (const auto& [size, want] : {std::pair<int64_t, double>{32, 5.71e5}, {64, 2.92e5}}) {
    const RandomSketchProblem problem{.input_dim = kWidth, .sketch_dim = size, .degree = 4};
    RandomSketchData in{.problem = problem, .rows = 2 * kVectors};
    in.x.resize(2 * kVectors * kWidth);
    FillNormal(3, {}, 0, 0, absl::MakeSpan(in.x));
    for (int64_t row = 0; row < 2 * kVectors; ++row) {
      double* x = in.x.data() + row * kWidth;
      double mean = 0.0;
      for (int64_t a = 0; a < kWidth; ++a) mean += x[a] / kWidth;
      for (int64_t a = 0; a < kWidth; ++a) x[a] -= mean;
      const double length = std::sqrt(Dot(x, x, kWidth));
      for (int64_t a = 0; a < kWidth; ++a) x[a] *= std::sqrt(kWidth) / length;
    }
    in.d_phi.assign(2 * kVectors * size, 0.0);
    double exact = 0.0;
    double sketched = 0.0;
    constexpr int kDraws = 60;
    for (int draw = 0; draw < kDraws; ++draw) {
      in.matrices =
          DrawRandomSketch(static_cast<uint64_t>(draw), 3, problem, SketchMatrices::kGaussian);
      const Values phi = RunRandomSketch(DeviceRun::Reference(), in).phi;
      for (int64_t i = 0; i < kVectors; ++i) {
        for (int64_t j = kVectors; j < 2 * kVectors; ++j) {
          const double c = Dot(in.x.data() + i * kWidth, in.x.data() + j * kWidth, kWidth);
          exact += std::pow(c, 4) / (kDraws * kVectors * kVectors);
          sketched += std::pow(Dot(phi.data() + i * size, phi.data() + j * size, size), 2) /
                      (kDraws * kVectors * kVectors);
        }
      }
    }
    EXPECT_NEAR(exact / 1.229e4, 1.0, 0.1);  // 4096 pairs of heavy tails
    EXPECT_NEAR(sketched / want, 1.0, 0.1);
  }
}

TEST(RandomSketchTest, HadamardMatricesHaveTheSameMean) {
  const auto [x, y] = TwoVectors();
  const RandomSketchProblem problem{.input_dim = kInputs, .sketch_dim = 16, .degree = 4};
  const Moments got = MomentsOf(problem, SketchMatrices::kHadamard, x, y, 20000);
  EXPECT_NEAR(got.mean / std::pow(Dot(x.data(), y.data(), kInputs), 2), 1.0, 0.03);
}

// Up to the signs of the inputs, every row is a column of the Sylvester matrix.
TEST(RandomSketchTest, HadamardMatricesAreSignsTimesColumns) {
  constexpr int64_t r = 32;
  const RandomSketchProblem problem{.input_dim = kInputs, .sketch_dim = r, .degree = 8};
  const RandomSketchDraw draw = DrawRandomSketch(5, 1, problem, SketchMatrices::kHadamard);
  std::set<int64_t> columns;
  const auto check = [&](const double* matrix, int64_t inputs) {
    for (int64_t row = 0; row < r; ++row) {
      // Products with row 0 have no signs: Sylvester columns are closed under products.
      int64_t column = 0;
      for (int64_t bit = 1; bit < inputs; bit *= 2) {
        const double at_bit = matrix[row * inputs + bit] * matrix[bit];
        const double at_zero = matrix[row * inputs] * matrix[0];
        if (at_bit != at_zero) column += bit;
      }
      columns.insert(column);
      for (int64_t i = 0; i < inputs; ++i) {
        ASSERT_EQ(std::abs(matrix[row * inputs + i]), 1.0);
        const double want = __builtin_popcountll(i & column) % 2 == 0 ? 1.0 : -1.0;
        ASSERT_EQ(matrix[row * inputs + i] * matrix[i] * matrix[row * inputs] * matrix[0], want);
      }
    }
  };
  for (int64_t i = 0; i < 4; ++i) check(draw.leaves.data() + i * r * kInputs, kInputs);
  EXPECT_EQ(columns.size(), 8U);  // with replacement, but of 128 draws every one of eight occurs
  for (int64_t i = 0; i < 2; ++i) check(draw.inner.data() + i * r * r, r);
}

TEST(RandomSketchTest, LayersAndSeedsHaveMatricesOfTheirOwn) {
  const RandomSketchProblem problem{.input_dim = 4, .sketch_dim = 3, .degree = 8};
  for (const SketchMatrices kind : {SketchMatrices::kGaussian, SketchMatrices::kHadamard}) {
    RandomSketchProblem p = problem;
    if (kind == SketchMatrices::kHadamard) p.sketch_dim = 16;
    const RandomSketchDraw one = DrawRandomSketch(1, 0, p, kind);
    EXPECT_EQ(DrawRandomSketch(1, 0, p, kind).leaves, one.leaves);
    EXPECT_NE(DrawRandomSketch(2, 0, p, kind).leaves, one.leaves);
    EXPECT_NE(DrawRandomSketch(1, 1, p, kind).leaves, one.leaves);
    EXPECT_NE(DrawRandomSketch(1, 1, p, kind).inner, one.inner);
    const int64_t leaf = p.sketch_dim * p.input_dim;
    EXPECT_NE(Values(one.leaves.begin(), one.leaves.begin() + leaf),
              Values(one.leaves.begin() + leaf, one.leaves.begin() + 2 * leaf));
  }
}

// 1 / r instead of 1 / sqrt(r) for each product in the tree: one of degree 4, three of degree 8.
TEST(RandomSketchTest, TheScaleOfTheAuthorsProgramIsSmaller) {
  for (const auto& [degree, products] : {std::pair<int64_t, int>{4, 1}, {8, 3}, {16, 7}}) {
    RandomSketchData in = MakeRandomSketch({.input_dim = 5, .sketch_dim = 9, .degree = degree}, 3);
    const SketchResults unbiased = RunRandomSketch(DeviceRun::Reference(), in);
    in.problem.scale = SketchScale::kOfficial;
    const SketchResults official = RunRandomSketch(DeviceRun::Reference(), in);
    for (size_t i = 0; i < official.phi.size(); ++i) {
      EXPECT_NEAR(official.phi[i] * std::pow(3.0, products), unbiased.phi[i],
                  1e-12 * std::abs(unbiased.phi[i]));
    }
  }
}

// Degree 8 written out: four projections of x, two products, two projections of those, one product.
TEST(RandomSketchTest, DegreeEightIsATreeOfThreeProducts) {
  const RandomSketchData in = MakeRandomSketch({.input_dim = 3, .sketch_dim = 2, .degree = 8}, 1);
  const double* l = in.matrices.leaves.data();
  const double* n = in.matrices.inner.data();
  const auto leaf = [&](int i, int c) { return Dot(l + (i * 2 + c) * 3, in.x.data(), 3); };
  Values low, high;
  for (int c = 0; c < 2; ++c) {
    low.push_back(leaf(0, c) * leaf(1, c) / std::sqrt(2.0));
    high.push_back(leaf(2, c) * leaf(3, c) / std::sqrt(2.0));
  }
  for (DeviceRun (*run)() :
       {+[] { return DeviceRun::Reference(); }, +[] { return DeviceRun::Cpu(); }}) {
    const SketchResults got = RunRandomSketch(run(), in);
    for (int c = 0; c < 2; ++c) {
      const double want =
          Dot(n + c * 2, low.data(), 2) * Dot(n + (2 + c) * 2, high.data(), 2) / std::sqrt(2.0);
      EXPECT_NEAR(got.phi[c], want, 1e-6 * (1 + std::abs(want)));
    }
  }
}

// ---- Learned sketches: recorded numbers (an independent program in fp64)

double X(int64_t i, int64_t a) {
  return std::sin(0.37 * static_cast<double>((i + 1) * (a + 1)) + 1);
}

LearnedSketchData GoldenNetwork() {
  LearnedSketchData in{.problem = {.input_dim = 6, .sketch_dim = 4, .hidden_dim = 32}, .rows = 3};
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t a = 0; a < 6; ++a) in.x.push_back(X(i, a));
    for (int64_t a = 0; a < 4; ++a) {
      in.d_phi.push_back(
          std::cos(0.21 * static_cast<double>(i + 1) + 0.5 * static_cast<double>(a + 1)));
    }
  }
  for (int stage = 0; stage < 2; ++stage) {
    StageData& s = in.stages[stage];
    const int64_t n = in.Inputs(stage);
    for (int tower = 0; tower < 2; ++tower) {
      const double shift = 0.5 * tower + 0.25 * stage;
      for (int64_t a = 0; a < n; ++a) {
        s.norm_weight.push_back(1 + 0.1 * std::sin(static_cast<double>(a + tower + stage)));
        s.norm_bias.push_back(0.1 * std::cos(static_cast<double>(a + tower + stage)));
      }
      for (int64_t j = 0; j < 32; ++j) {
        for (int64_t i = 0; i < n; ++i) {
          s.expand.push_back(0.5 * std::sin(1.3 * static_cast<double>(i * i) +
                                            0.7 * static_cast<double>(j * (i + 1)) + shift));
        }
      }
      for (int64_t j = 0; j < 4; ++j) {
        for (int64_t i = 0; i < 32; ++i) {
          s.contract.push_back(0.3 * std::cos(0.9 * static_cast<double>(i * (j + 1)) +
                                              1.1 * static_cast<double>(j) + shift));
        }
      }
    }
  }
  return in;
}

void ExpectNear(const Values& got, int64_t first, const Values& want, double tolerance) {
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[first + i], want[i], tolerance) << i;
}

double SquaresOfTower(const Values& values, int tower) {
  const size_t half = values.size() / 2;
  double sum = 0.0;
  for (size_t i = tower * half; i < (tower + 1) * half; ++i) sum += values[i] * values[i];
  return sum;
}

void ExpectGoldenNetwork(DeviceRun run, double tolerance) {
  const LearnedSketchData in = GoldenNetwork();
  const LearnedSketchResults r = RunLearnedSketch(std::move(run), in);
  ExpectNear(r.phi, 0, {0.0214527142, -0.0603811093, 0.1201694948, -0.0716857519}, tolerance);
  ExpectNear(r.phi, 8, {-0.0053176573, -0.0029404621, -0.5464839047, -0.1316702626}, tolerance);
  EXPECT_NEAR(Dot(in.d_phi.data(), r.phi.data(), 12), 0.3974689106, tolerance);
  ExpectNear(
      r.d_x, 12,
      {-0.1630070281, 0.1503042312, -0.7381151931, 0.7124101310, 0.0541158967, -0.0157080377},
      tolerance);
  // [tower][stage]: sums of squares of the four gradients.
  const Values want[2][2] = {{{0.7722796794, 0.5870593985, 7.6811706169, 27.4491014802},
                              {0.0958779068, 0.2143958763, 1.5198175270, 3.0339978072}},
                             {{0.1377017335, 0.2803343671, 3.2215114344, 23.6445594804},
                              {0.1463819238, 0.2297653731, 2.2438226153, 4.5450639205}}};
  for (int tower = 0; tower < 2; ++tower) {
    for (int stage = 0; stage < 2; ++stage) {
      const StageData& s = r.stages[stage];
      const Values got = {SquaresOfTower(s.norm_weight, tower), SquaresOfTower(s.norm_bias, tower),
                          SquaresOfTower(s.expand, tower), SquaresOfTower(s.contract, tower)};
      ExpectNear(got, 0, want[tower][stage], 20 * tolerance);
    }
  }
}

TEST(LearnedSketchTest, EqualsRecordedNumbers) {
  ExpectGoldenNetwork(DeviceRun::Reference(), 1e-10);
  ExpectGoldenNetwork(DeviceRun::Cpu(), 2e-6);
}

TEST(LearnedSketchTest, FeaturesAreBounded) {
  LearnedSketchData in = MakeLearnedSketch({.input_dim = 7, .sketch_dim = 5, .hidden_dim = 40}, 50);
  for (StageData& stage : in.stages) {
    for (double& weight : stage.contract) weight *= 30;
  }
  for (DeviceRun (*run)() :
       {+[] { return DeviceRun::Reference(); }, +[] { return DeviceRun::Cpu(); }}) {
    const Values phi = RunLearnedSketch(run(), in).phi;
    EXPECT_LE(MaxMagnitude(phi), std::sqrt(5.0) * (1 + 1e-7));
    EXPECT_GT(MaxMagnitude(phi), 2.0);  // the bound is felt
  }
}

// ---- Gradients of the reference device

// Five-point differences with step 1e-3: the error is h^4 f'''''/30 + 1.5 eps |f| / h, below 1e-9
// times the size of the function.
void ExpectDifferences(Values& values, const Values& gradient, const std::function<double()>& loss,
                       const std::string& what) {
  constexpr double h = 1e-3;
  for (size_t i = 0; i < values.size(); ++i) {
    const double before = values[i];
    const auto at = [&](double steps) {
      values[i] = before + steps * h;
      return loss();
    };
    const double slope = (at(-2) - 8 * at(-1) + 8 * at(1) - at(2)) / (12 * h);
    values[i] = before;
    EXPECT_NEAR(gradient[i], slope, 1e-8 * (1 + std::abs(slope))) << what << " " << i;
  }
}

TEST(RandomSketchTest, GradientsEqualFiniteDifferences) {
  for (const int64_t degree : {4, 8, 16}) {
    RandomSketchData in = MakeRandomSketch({.input_dim = 4, .sketch_dim = 3, .degree = degree}, 2);
    for (double& x : in.x) x *= 0.5;
    const SketchResults r = RunRandomSketch(DeviceRun::Reference(), in);
    ExpectDifferences(
        in.x, r.d_x,
        [&] {
          const Values phi = RunRandomSketch(DeviceRun::Reference(), in).phi;
          return Dot(phi.data(), in.d_phi.data(), static_cast<int64_t>(phi.size()));
        },
        absl::StrCat("degree ", degree));
  }
}

TEST(LearnedSketchTest, GradientsEqualFiniteDifferences) {
  LearnedSketchData in =
      MakeLearnedSketch({.input_dim = 4, .sketch_dim = 3, .hidden_dim = 6, .epsilon = 0.1}, 2);
  const LearnedSketchResults r = RunLearnedSketch(DeviceRun::Reference(), in);
  const auto loss = [&] {
    const Values phi = RunLearnedSketch(DeviceRun::Reference(), in).phi;
    return Dot(phi.data(), in.d_phi.data(), static_cast<int64_t>(phi.size()));
  };
  ExpectDifferences(in.x, r.d_x, loss, "x");
  ForEachParameter([&](const std::string& name, Values& values,
                       const Values& gradient) { ExpectDifferences(values, gradient, loss, name); },
                   in, const_cast<LearnedSketchResults&>(r));
}

// ---- The CPU

// Rows around the tiles of the CPU (128 rows, groups of 512), odd widths.
TEST(RandomSketchTest, CpuIsAsExactAsTheReferenceAllows) {
  for (const int64_t degree : {4, 8, 32}) {
    for (const int64_t rows : {0, 1, 127, 128, 300}) {
      const RandomSketchData in =
          MakeRandomSketch({.input_dim = 17, .sketch_dim = 9, .degree = degree}, rows, 5);
      const SketchResults exact = RunRandomSketch(DeviceRun::Reference(), in);
      const SketchResults got = RunRandomSketch(DeviceRun::Cpu(), in);
      // Sums of 17 and 9 terms and p/2 factors in fp32: some dozens of roundings.
      EXPECT_LE(RootMeanSquareDifference(got.phi, exact.phi), 2e-6 * RootMeanSquare(exact.phi));
      EXPECT_LE(RootMeanSquareDifference(got.d_x, exact.d_x), 2e-6 * RootMeanSquare(exact.d_x));
      for (const int threads : {1, 3}) {
        const SketchResults again = RunRandomSketch(DeviceRun::Cpu(threads), in);
        EXPECT_EQ(again.phi, got.phi);
        EXPECT_EQ(again.d_x, got.d_x);
      }
    }
  }
}

// The tolerance rule over whole arrays: two norms deep, single rows differ by luck in how much of a
// rounding they amplify.
void ExpectAsExactInTheMean(const Values& got, const Values& plain, const Values& exact,
                            const std::string& what) {
  const double rounding = std::numeric_limits<float>::epsilon() * RootMeanSquare(exact);
  EXPECT_LE(RootMeanSquareDifference(got, exact),
            2 * RootMeanSquareDifference(plain, exact) + 2 * rounding)
      << what;
}

TEST(LearnedSketchTest, CpuIsAsExactAsPlainLoops) {
  for (const int64_t rows : {0, 1, 127, 129, 600, 1100}) {
    SCOPED_TRACE(rows);
    const LearnedSketchData in =
        MakeLearnedSketch({.input_dim = 11, .sketch_dim = 7, .hidden_dim = 20}, rows, 6);
    LearnedSketchResults exact = RunLearnedSketch(DeviceRun::Reference(), in);
    LearnedSketchResults got = RunLearnedSketch(DeviceRun::Cpu(), in);
    LearnedSketchResults plain = PlainLearnedSketch<float>::Run(in);
    const auto close = [](const std::string& name, const Values& g, const Values& e) {
      EXPECT_LE(RootMeanSquareDifference(g, e), 1e-5 * RootMeanSquare(e)) << name;
    };
    close("phi", got.phi, exact.phi);
    close("d_x", got.d_x, exact.d_x);
    ForEachParameter(close, got, exact);
    if (rows >= 600) {
      ExpectAsExactInTheMean(got.phi, plain.phi, exact.phi, "phi");
      ExpectAsExactInTheMean(got.d_x, plain.d_x, exact.d_x, "d_x");
      ForEachParameter([](const std::string& name, const Values& g, const Values& p,
                          const Values& e) { ExpectAsExactInTheMean(g, p, e, name); },
                       got, plain, exact);
    }
    for (const int threads : {1, 3}) {
      LearnedSketchResults again = RunLearnedSketch(DeviceRun::Cpu(threads), in);
      EXPECT_EQ(again.phi, got.phi);
      EXPECT_EQ(again.d_x, got.d_x);
      ForEachParameter([](const std::string& name, const Values& a,
                          const Values& b) { EXPECT_EQ(a, b) << name; },
                       again, got);
    }
  }
}

TEST(LearnedSketchTest, ReferenceEqualsTheTextbookLoops) {
  const LearnedSketchData in =
      MakeLearnedSketch({.input_dim = 11, .sketch_dim = 7, .hidden_dim = 20}, 9, 6);
  LearnedSketchResults exact = RunLearnedSketch(DeviceRun::Reference(), in);
  LearnedSketchResults plain = PlainLearnedSketch<double>::Run(in);
  EXPECT_LE(MaxDifference(exact.phi, plain.phi), 1e-12);
  EXPECT_LE(MaxDifference(exact.d_x, plain.d_x), 1e-11);
  ForEachParameter([](const std::string& name, const Values& a,
                      const Values& b) { EXPECT_LE(MaxDifference(a, b), 1e-10) << name; },
                   exact, plain);
}

TEST(LearnedSketchTest, GradientsAreAddedTo) {
  const LearnedSketchData in =
      MakeLearnedSketch({.input_dim = 5, .sketch_dim = 4, .hidden_dim = 8}, 70);
  for (DeviceRun (*run)() :
       {+[] { return DeviceRun::Reference(); }, +[] { return DeviceRun::Cpu(); }}) {
    LearnedSketchResults once = RunLearnedSketch(run(), in);
    LearnedSketchResults added = RunLearnedSketch(run(), in, 3.0, Accumulate::kYes);
    const auto expect = [](const std::string& name, const Values& a, const Values& b) {
      for (size_t i = 0; i < a.size(); ++i) {
        EXPECT_NEAR(a[i] + 3.0, b[i], 1e-6 * (10 + std::abs(a[i]))) << name;
      }
    };
    ForEachParameter(expect, once, added);
    expect("d_x", once.d_x, added.d_x);
  }
}

// ---- What is refused

TEST(SketchContractTest, NamesWhatIsWrong) {
  DeviceRun run = DeviceRun::Cpu(1);
  const auto refused = [](const char* complaint) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(complaint));
  };
  const RandomSketchProblem random{.input_dim = 3, .sketch_dim = 2, .degree = 4};
  EXPECT_OK(Supports(run.device(), random));
  for (const int64_t degree : {0, 2, 6, 128}) {
    RandomSketchProblem bad = random;
    bad.degree = degree;
    EXPECT_THAT(Supports(run.device(), bad), refused("expected a power of two, 4 to 64"));
  }
  const Tensor x = run.New({5, 3});
  const Tensor leaves = run.New({2, 2, 3});
  Tensor phi = run.New({5, 2});
  EXPECT_OK(RandomSketchForward(run.stream(), random, x, leaves, {}, phi));
  EXPECT_THAT(RandomSketchForward(run.stream(), random, phi, leaves, {}, phi),
              refused("x is f32[5, 2], expected rows of 3"));
  EXPECT_THAT(RandomSketchForward(run.stream(), random, x, x, {}, phi), refused("leaves is"));
  EXPECT_THAT(RandomSketchForward(run.stream(), random, x, leaves, x, phi),
              refused("inner has no part"));

  const LearnedSketchProblem learned{.input_dim = 3, .sketch_dim = 2, .hidden_dim = 4};
  EXPECT_OK(Supports(run.device(), learned));
  LearnedSketchProblem bad = learned;
  bad.hidden_dim = 0;
  EXPECT_THAT(Supports(run.device(), bad), refused("hidden_dim 0"));
  LearnedSketchData in = MakeLearnedSketch(learned, 5);
  LearnedSketchWeights weights = UploadStages(run, learned, in.stages);
  LearnedSketchSaved saved;
  EXPECT_OK(LearnedSketchForward(run.stream(), learned, x, weights, phi, saved));
  weights[1].expand = run.New({2, 4, 3});
  EXPECT_THAT(LearnedSketchForward(run.stream(), learned, x, weights, phi, saved),
              refused("weights[1].expand is f32[2, 4, 3], expected f32[2, 4, 2]"));
  weights = UploadStages(run, learned, in.stages);
  saved.record = x;
  EXPECT_THAT(LearnedSketchForward(run.stream(), learned, x, weights, phi, saved),
              refused("saved.record is f32[5, 3]"));
}

}  // namespace
}  // namespace weft::kernels::testing
