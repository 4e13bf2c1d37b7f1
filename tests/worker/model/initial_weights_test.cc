// The weights that a job starts from: the same for a seed on every device and any number of
// threads.
#include "worker/model/initial_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "kernels/random/philox.h"
#include "tests/worker/model/model_fixture.h"

namespace weft::worker {
namespace {

using testing::NewCpu;
using testing::NewReference;
using testing::ToHost;

TEST(InitialWeightsTest, AreTheSameOnEveryDeviceAndFollowTheSeed) {
  const ModelConfig config{
      .vocabulary = 64, .width = 32, .hidden = 64, .layers = {DeltaMixerConfig{.heads = 2}}};
  const PassShape shape;
  testing::ModelFixture cpu(config, NewCpu(1), shape);
  testing::ModelFixture reference(config, NewReference(), shape);
  const std::vector<double> weights = ToHost(cpu.weights().block(), cpu.stream());
  EXPECT_EQ(weights, ToHost(reference.weights().block(), reference.stream()));
  ASSERT_OK(InitialiseWeights(/*seed=*/2, cpu.stream(), cpu.weights()));
  EXPECT_NE(weights, ToHost(cpu.weights().block(), cpu.stream()));
}

TEST(InitialWeightsTest, MatricesAreNormalWithDeviation002AndNormsAreOne) {
  const ModelConfig config{
      .vocabulary = 256, .width = 64, .hidden = 64, .layers = {DeltaMixerConfig{.heads = 2}}};
  testing::ModelFixture fixture(config, NewReference(), PassShape{});
  const std::vector<double> weights = ToHost(fixture.weights().block(), fixture.stream());
  for (const Parameter& parameter : fixture.model().layout().parameters()) {
    const auto count = static_cast<double>(parameter.shape.count());
    double sum = 0;
    double squares = 0;
    for (int64_t i = 0; i < parameter.shape.count(); ++i) {
      const double value = weights[static_cast<size_t>(parameter.offset + i)];
      sum += value;
      squares += value * value;
    }
    if (parameter.initialisation.kind == Initialisation::Kind::kFill) {
      EXPECT_EQ(sum, count) << parameter.name;
      EXPECT_EQ(squares, count) << parameter.name;
    } else {
      // Five standard errors of a mean and of a variance.
      EXPECT_NEAR(sum / count, 0, 5 * 0.02 / std::sqrt(count)) << parameter.name;
      EXPECT_NEAR(squares / count / 4e-4, 1, 5 * std::sqrt(2 / count)) << parameter.name;
    }
  }
}

struct Moments {
  double mean = 0;
  double variance = 0;
  double largest = 0;
};

// Of the only parameter of a layout of its own.
Moments MomentsOf(const ParameterLayout& layout) {
  const auto device = NewReference();
  const auto stream = testing::Must(device->NewStream());
  ParameterBlock block(layout, testing::Must(kernels::NewTensor(*device, kernels::DType::kF64,
                                                                {layout.block_count()})));
  EXPECT_OK(InitialiseWeights(/*seed=*/3, *stream, block));
  const std::vector<double> values = ToHost(block[ParameterIndex(0)], *stream);
  const auto count = static_cast<double>(values.size());
  Moments moments;
  for (const double value : values) {
    moments.mean += value / count;
    moments.variance += value * value / count;
    moments.largest = std::max(moments.largest, std::abs(value));
  }
  return moments;
}

TEST(InitialWeightsTest, SchemesHaveTheSpreadThatTheyName) {
  constexpr double in = 40;
  constexpr double out = 100;
  constexpr double count = in * out;
  const auto of = [](WeightScheme scheme) {
    ParameterLayout layout(scheme);
    layout.AddWeight("w", {100, 40});
    return MomentsOf(layout);
  };
  // A uniform variable within +-b has the variance b^2 / 3, and its square a relative standard
  // error of sqrt(4 / 5 / count); five of them are allowed. The cut normal's tails are thinner than
  // a normal's, whose bound sqrt(2 / count) is used.
  const Moments torch = of(WeightScheme::kTorch);
  EXPECT_LT(torch.largest, 1 / std::sqrt(in));
  EXPECT_NEAR(torch.variance * 3 * in, 1, 5 * std::sqrt(0.8 / count));
  const Moments xavier = of(WeightScheme::kXavierUniform);
  EXPECT_LT(xavier.largest, std::sqrt(6 / (in + out)));
  EXPECT_NEAR(xavier.variance * (in + out) / 2, 1, 5 * std::sqrt(0.8 / count));
  const Moments lecun = of(WeightScheme::kLecun);
  EXPECT_LE(lecun.largest, 2 / 0.8796 / std::sqrt(in));
  EXPECT_NEAR(lecun.variance * in, 1, 5 * std::sqrt(2 / count));
  EXPECT_NEAR(lecun.mean, 0, 5 / std::sqrt(in * count));
}

TEST(InitialWeightsTest, BiasesAreZeroExceptInTheSchemeThatDrawsThem) {
  ParameterLayout normal;
  normal.AddBias("b", 1000, /*in=*/25);
  EXPECT_EQ(MomentsOf(normal).largest, 0);
  ParameterLayout torch(WeightScheme::kTorch);
  torch.AddBias("b", 1000, /*in=*/25);
  const Moments moments = MomentsOf(torch);
  EXPECT_LT(moments.largest, 0.2);
  EXPECT_NEAR(moments.variance * 75, 1, 5 * std::sqrt(0.8 / 1000));
}

TEST(InitialWeightsTest, ConstantsFollowFromTheSeedAndAreNotTrained) {
  ParameterLayout layout;
  const ParameterIndex c =
      layout.AddConstant("c", {2, 3}, [](uint64_t seed, absl::Span<double> into) {
        for (size_t i = 0; i < into.size(); ++i) into[i] = static_cast<double>(seed + i);
      });
  EXPECT_EQ(layout.parameter_count(), 0);
  EXPECT_FALSE(layout[c].weight_decay);
  EXPECT_EQ(MomentsOf(layout).mean, 3 + 2.5);  // seed 3, elements 0 to 5
}

// Computed by another program from the definition (Philox block i / 4 of ordinal p, Box and Muller,
// times 0.02, rounded to fp32) and never to change: the hashes of runs rest on it.
TEST(InitialWeightsTest, GoldenValues) {
  const ModelConfig config{
      .vocabulary = 8, .width = 4, .hidden = 4, .layers = {DeltaMixerConfig{.heads = 1}}};
  testing::ModelFixture fixture(config, NewReference(), PassShape{});
  ASSERT_OK(InitialiseWeights(/*seed=*/2024, fixture.stream(), fixture.weights()));
  const std::vector<double> weights = ToHost(fixture.weights().block(), fixture.stream());
  const ParameterLayout& layout = fixture.model().layout();
  EXPECT_EQ(layout.parameters()[0].name, "embedding.weight");
  EXPECT_EQ(layout.parameters()[2].name, "layers.0.mixer.q.weight");
  std::vector<double> normals(8);
  kernels::FillNormal(2024, {.tag = kernels::RandomTag::kInitialisation}, /*ordinal=*/2, 0,
                      absl::MakeSpan(normals));
  for (size_t i = 0; i < normals.size(); ++i) {
    EXPECT_EQ(weights[static_cast<size_t>(layout.parameters()[2].offset) + i],
              static_cast<double>(static_cast<float>(0.02 * normals[i])));
  }
  EXPECT_FLOAT_EQ(static_cast<float>(weights[0]), 0.00275082974F);
  EXPECT_FLOAT_EQ(static_cast<float>(weights[1]), 0.0264858369F);
}

// Element i of the parameter with this ordinal, by the definition.
double Defined(uint64_t seed, uint32_t ordinal, const Parameter& parameter, int64_t i) {
  const auto [kind, scale, given] = parameter.initialisation;
  const auto word = static_cast<size_t>(i % 4);
  const auto normal = [&](uint32_t attempt) {
    std::array<double, 4> four = {};
    kernels::FillNormal(seed, {.step = attempt}, ordinal, i / 4 * 4, absl::MakeSpan(four));
    return four[word];
  };
  switch (kind) {
    case Initialisation::Kind::kFill:
      return scale;
    case Initialisation::Kind::kNormal:
      return scale * normal(0);
    case Initialisation::Kind::kTruncatedNormal:
      for (uint32_t attempt = 0;; ++attempt) {
        if (std::abs(normal(attempt)) <= 2) return scale * normal(attempt);
      }
    case Initialisation::Kind::kUniform:
      return scale * (2 * kernels::U32(kernels::Draw(seed, {}, static_cast<uint32_t>(i / 4),
                                                     ordinal)[word]) -
                      1);
    case Initialisation::Kind::kGiven:
      return static_cast<double>(i);
  }
  return 0;
}

ParameterLayout LayoutOfEveryKind(int64_t first) {
  using Kind = Initialisation::Kind;
  ParameterLayout layout;
  layout.AddNorm("norm", 17);
  layout.AddWeight("large", {first});
  layout.AddConstant("given", {100}, [](uint64_t /*seed*/, absl::Span<double> into) {
    for (size_t i = 0; i < into.size(); ++i) into[i] = static_cast<double>(i);
  });
  layout.AddWeight("uniform", {50'003}, {.kind = Kind::kUniform, .scale = 0.5});
  layout.AddWeight("cut", {33'333}, {.kind = Kind::kTruncatedNormal, .scale = 3.0});
  layout.AddBias("bias", 3, /*in=*/1);
  return layout;
}

std::vector<double> WeightsOf(const ParameterLayout& layout, int threads) {
  const auto device = NewCpu(1);
  const auto stream = testing::Must(device->NewStream());
  ParameterBlock block(layout, testing::Must(kernels::NewTensor(*device, kernels::DType::kF32,
                                                                {layout.block_count()})));
  EXPECT_OK(InitialiseWeights(/*seed=*/77, *stream, block, threads));
  return ToHost(block.block(), *stream);
}

// The large parameter ends short of element 2^22, so that the given one lies on both sides of where
// one span of the block ends and the next begins.
TEST(InitialWeightsTest, FollowTheDefinitionInEveryPartOfALargeBlock) {
  const ParameterLayout layout = LayoutOfEveryKind((int64_t{1} << 22) - 32 - 48);
  std::vector<double> expected(static_cast<size_t>(layout.block_count()), 0.0);
  uint32_t ordinal = 0;
  for (const Parameter& parameter : layout.parameters()) {
    for (int64_t i = 0; i < parameter.shape.count(); ++i) {
      expected[static_cast<size_t>(parameter.offset + i)] =
          static_cast<double>(static_cast<float>(Defined(77, ordinal, parameter, i)));
    }
    ++ordinal;
  }
  EXPECT_TRUE(WeightsOf(layout, 2) == expected);  // too long to print
}

TEST(InitialWeightsTest, AreTheSameWithAnyNumberOfThreads) {
  const ParameterLayout layout = LayoutOfEveryKind(100'001);
  const std::vector<double> alone = WeightsOf(layout, 1);
  for (const int threads : {2, 3, 8, AllThreads()}) {
    EXPECT_TRUE(WeightsOf(layout, threads) == alone) << threads;
  }
}

}  // namespace
}  // namespace weft::worker
