// Polynomial attention against recorded numbers (an independent program in fp64), and its gradients
// against finite differences.
//
// Inputs are X(id)[i][a] = sin(0.37 (i + 1) (a + 1) + id); the loss is sum(G * o) with G[i][a] =
// cos(0.21 (i + 1) + 0.5 (a + 1)).
#include <gtest/gtest.h>

#include <functional>

#include "tests/kernels/attention/polysketch_testing.h"

namespace weft::kernels::testing {
namespace {

Values X(int id, int64_t rows, int64_t width) {
  Values x;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t a = 0; a < width; ++a) {
      x.push_back(std::sin(0.37 * static_cast<double>((i + 1) * (a + 1)) + id));
    }
  }
  return x;
}

Values G(int64_t rows, int64_t width) {
  Values g;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t a = 0; a < width; ++a) {
      g.push_back(std::cos(0.21 * static_cast<double>(i + 1) + 0.5 * static_cast<double>(a + 1)));
    }
  }
  return g;
}

PolysketchData Golden(PolysketchWeights weights) {
  PolysketchData in{.problem = {.weights = weights,
                                .queries = 6,
                                .keys = 6,
                                .head_dim = 4,
                                .sketch_dim = weights == PolysketchWeights::kExact ? 0 : 3,
                                .degree = 4,
                                .block = 3}};
  if (in.HasExact()) {
    in.q = X(1, 6, 4);
    in.k = X(2, 6, 4);
  }
  if (in.HasSketch()) {
    in.phi_q = X(4, 6, 3);
    in.phi_k = X(5, 6, 3);
  }
  in.v = X(3, 6, 4);
  in.d_o = G(6, 4);
  return in;
}

struct Case {
  const char* name;
  DeviceRun (*run)();
  double tolerance;  // the numbers have ten digits
};

class PolysketchGoldenTest : public ::testing::TestWithParam<Case> {
 protected:
  [[nodiscard]] PolysketchResults Run(const PolysketchData& in) const {
    return RunPolysketch(GetParam().run(), in);
  }
  void ExpectRow(const Values& got, int64_t row, const Values& want) const {
    for (size_t a = 0; a < want.size(); ++a) {
      EXPECT_NEAR(got[row * want.size() + a], want[a], GetParam().tolerance) << "column " << a;
    }
  }
  void ExpectSums(const char* what, const Values& got, double sum, double squares) const {
    double got_sum = 0.0;
    double got_squares = 0.0;
    for (const double x : got) {
      got_sum += x;
      got_squares += x * x;
    }
    EXPECT_NEAR(got_sum, sum, 4 * GetParam().tolerance) << what;
    EXPECT_NEAR(got_squares, squares, 4 * GetParam().tolerance) << what;
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, PolysketchGoldenTest,
                         ::testing::Values(Case{"reference", [] { return DeviceRun::Reference(); },
                                                1e-10},
                                           Case{"cpu", [] { return DeviceRun::Cpu(); }, 3e-6}),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST_P(PolysketchGoldenTest, ExactWeights) {
  const PolysketchResults r = Run(Golden(PolysketchWeights::kExact));
  ExpectRow(r.o, 0, {-0.0877075219, -0.2182078306, -0.3191747331, -0.3769428328});
  ExpectRow(r.o, 5, {-0.8016068299, 0.4412176346, 0.4257165295, -0.6386892250});
}

TEST_P(PolysketchGoldenTest, SketchedWeights) {
  const PolysketchResults r = Run(Golden(PolysketchWeights::kSketched));
  ExpectRow(r.o, 0, {-0.1514363292, -0.3767589387, -0.5510889933, -0.6508317379});
  ExpectRow(r.o, 5, {-0.7116161075, 0.1368860929, 0.3727007622, -0.3707208327});
  ExpectSums("d_phi_q", r.d_phi_q, -3.312771955001, 1.708789093827);
  ExpectSums("d_phi_k", r.d_phi_k, -0.695269072971, 6.407013701176);
  ExpectSums("d_v", r.d_v, -5.580110701444, 5.015649265483);
}

TEST_P(PolysketchGoldenTest, MixedWeights) {
  const PolysketchData in = Golden(PolysketchWeights::kMixed);
  const PolysketchResults r = Run(in);
  const PolysketchResults exact = Run(Golden(PolysketchWeights::kExact));
  for (int64_t i = 0; i < 12; ++i) EXPECT_NEAR(r.o[i], exact.o[i], GetParam().tolerance);
  ExpectRow(r.o, 3, {-0.6214877222, -0.6307572908, -0.0506855882, 0.3331093365});
  ExpectRow(r.o, 5, {-0.7858076680, 0.3597984000, 0.3514475256, -0.6198698182});
  double loss = 0.0;
  for (size_t i = 0; i < r.o.size(); ++i) loss += in.d_o[i] * r.o[i];
  EXPECT_NEAR(loss, 0.0399097622, GetParam().tolerance);

  ExpectRow(r.d_phi_q, 5, {0.2479640430, 0.0285637407, -0.1901080835});
  ExpectRow(r.d_phi_k, 0, {-0.0122772203, -0.1385468220, 0.1936226458});
  ExpectRow(r.d_v, 0, {0.6079811249, 0.2044165628, -0.2491963032, -0.6417972231});
  ExpectRow(r.d_q, 5, {0.0604404148, 0.2502890941, -0.1645275059, -0.2434389548});
  ExpectRow(r.d_k, 3, {-0.5243911775, 0.8915153512, 0.3799966162, -0.6636975421});
  ExpectSums("d_phi_q", r.d_phi_q, 0.025941196865, 0.292763416745);
  ExpectSums("d_phi_k", r.d_phi_k, 0.364596236988, 1.031868176089);
  ExpectSums("d_v", r.d_v, -6.816854071617, 6.492939710663);
  ExpectSums("d_q", r.d_q, 1.596190122038, 1.890665087749);
  ExpectSums("d_k", r.d_k, 1.569843394786, 3.855735697007);
}

TEST_P(PolysketchGoldenTest, FinalState) {
  for (const PolysketchWeights weights :
       {PolysketchWeights::kSketched, PolysketchWeights::kMixed}) {
    const PolysketchResults r = Run(Golden(weights));
    // S[0, 1, :] of the square form, whose entries (0, 1) and (1, 0) are one of ours.
    Values row(r.values.begin() + SelfProductIndex(3, 0, 1) * 4,
               r.values.begin() + SelfProductIndex(3, 0, 1) * 4 + 4);
    for (double& x : row) x /= std::sqrt(2.0);
    ExpectRow(row, 0, {-0.4524106611, 0.0603757957, 0.1988181944, -0.6859667122});
    EXPECT_NEAR(r.mass[1], 0.7073344402, GetParam().tolerance);
    EXPECT_EQ(r.mass[3], r.mass[1]);
  }
}

// ---- Gradients of the reference device

// Every array of a problem, its gradient, and how the two are found.
struct Operand {
  const char* name;
  Values PolysketchData::*value;
  Values PolysketchResults::*gradient;
};
constexpr Operand kOperands[] = {
    {"q", &PolysketchData::q, &PolysketchResults::d_q},
    {"k", &PolysketchData::k, &PolysketchResults::d_k},
    {"phi_q", &PolysketchData::phi_q, &PolysketchResults::d_phi_q},
    {"phi_k", &PolysketchData::phi_k, &PolysketchResults::d_phi_k},
    {"v", &PolysketchData::v, &PolysketchResults::d_v},
    {"values", &PolysketchData::values, &PolysketchResults::d_values},
};

double Loss(const PolysketchData& in) {
  const PolysketchResults r = RunPolysketch(DeviceRun::Reference(), in);
  double loss = 0.0;
  const auto add = [&](const Values& slopes, const Values& results) {
    for (size_t i = 0; i < slopes.size(); ++i) loss += slopes[i] * results[i];
  };
  add(in.d_o, r.o);
  add(in.d_values, r.values);
  add(in.d_mass, r.mass);
  return loss;
}

// Five-point differences with step 1e-3: the error is h^4 f'''''/30 + 1.5 eps |f| / h, below 1e-9.
double Difference(const std::function<double(double)>& loss_at) {
  constexpr double h = 1e-3;
  return (loss_at(-2 * h) - 8 * loss_at(-h) + 8 * loss_at(h) - loss_at(2 * h)) / (12 * h);
}

void ExpectGradients(PolysketchData in) {
  SCOPED_TRACE(in.Name());
  const PolysketchResults r = RunPolysketch(DeviceRun::Reference(), in);
  for (const Operand& operand : kOperands) {
    Values& values = in.*operand.value;
    for (size_t i = 0; i < values.size(); ++i) {
      const double before = values[i];
      const double slope = Difference([&](double step) {
        values[i] = before + step;
        return Loss(in);
      });
      values[i] = before;
      EXPECT_NEAR((r.*operand.gradient)[i], slope, 1e-8 * (1 + std::abs(slope)))
          << operand.name << "[" << i << "]";
    }
  }
  // E stays symmetric: its two entries move together.
  const int64_t dim = in.problem.sketch_dim;
  for (int64_t a = 0; a < dim && !in.mass.empty(); ++a) {
    for (int64_t b = a; b < dim; ++b) {
      const double before = in.mass[a * dim + b];
      const double slope = Difference([&](double step) {
        in.mass[a * dim + b] = in.mass[b * dim + a] = before + step;
        return Loss(in);
      });
      in.mass[a * dim + b] = in.mass[b * dim + a] = before;
      const double got = r.d_mass[a * dim + b] + (a == b ? 0.0 : r.d_mass[b * dim + a]);
      EXPECT_NEAR(got, slope, 1e-8 * (1 + std::abs(slope))) << "mass " << a << " " << b;
    }
  }
}

TEST(PolysketchReferenceTest, GradientsEqualFiniteDifferences) {
  for (const int64_t degree : {2, 4, 8}) {
    ExpectGradients(RandomPolysketch({.weights = PolysketchWeights::kExact,
                                      .queries = 5,
                                      .keys = 5,
                                      .heads = 2,
                                      .head_dim = 3,
                                      .degree = degree}));
    ExpectGradients(RandomPolysketch({.weights = PolysketchWeights::kExact,
                                      .queries = 3,
                                      .keys = 5,
                                      .head_dim = 3,
                                      .degree = degree,
                                      .causal = false,
                                      .c0 = 0.25}));
    for (const int64_t block : {1, 2, 3, 7}) {
      ExpectGradients(RandomPolysketch({.weights = PolysketchWeights::kMixed,
                                        .queries = 7,
                                        .keys = 7,
                                        .head_dim = 3,
                                        .sketch_dim = 4,
                                        .degree = degree,
                                        .block = block,
                                        .kappa = 1.5},
                                       /*with_states=*/true));
    }
  }
  PolysketchData sketched = RandomPolysketch({.weights = PolysketchWeights::kSketched,
                                              .batch = 2,
                                              .queries = 4,
                                              .keys = 6,
                                              .head_dim = 3,
                                              .sketch_dim = 3,
                                              .block = 4,
                                              .c0 = 0.5,
                                              .kappa = 0.75},
                                             /*with_states=*/false);
  ExpectGradients(sketched);
  AddPadding(sketched);
  ExpectGradients(sketched);
  sketched.problem.causal = false;
  ExpectGradients(sketched);
}

TEST(PolysketchReferenceTest, GradientsOfStatesEqualFiniteDifferences) {
  ExpectGradients(RandomPolysketch({.weights = PolysketchWeights::kSketched,
                                    .queries = 4,
                                    .keys = 5,
                                    .head_dim = 2,
                                    .sketch_dim = 3,
                                    .block = 2},
                                   /*with_states=*/true));
}

}  // namespace
}  // namespace weft::kernels::testing
