// Sequences that are computed slice by slice against the same as a whole.
#include "worker/model/sliced_language_model.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "tests/worker/model/model_fixture.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ModelFixture;
using testing::Must;
using testing::NewCpu;
using testing::NewReference;
using testing::ToHost;
using testing::Tokens;
using weft::testing::StatusIs;

constexpr PassShape kShape{.batch = 2, .tokens = 14};

ModelConfig Tiny(std::vector<MixerConfig> layers) {
  return {.vocabulary = 11, .width = 12, .hidden = 10, .layers = std::move(layers)};
}

// The model of the SLiM Performers.
ModelConfig SlimStyle(std::vector<MixerConfig> layers) {
  ModelConfig config = Tiny(std::move(layers));
  config.norm = NormKind::kLayer;
  config.norm_placement = NormPlacement::kOutput;
  config.final_norm = false;
  config.mlp = MlpKind::kGelu;
  config.positions = PositionKind::kSinusoidalConcatenated;
  config.biases = {.projections = true, .mlp = true, .logits = true};
  config.output_projection = false;
  return config;
}

ModelConfig LearnedPositions(std::vector<MixerConfig> layers) {
  ModelConfig config = Tiny(std::move(layers));
  config.positions = PositionKind::kLearned;
  config.max_positions = 14;
  return config;
}

ModelConfig Dropping(ModelConfig config) {
  config.dropout = {.embedding = 0.2, .sublayer = 0.3, .mlp_hidden = 0.25};
  return config;
}

struct NamedModel {
  std::string name;
  ModelConfig config;
  bool undoes = true;  // every layer does
  // Of slices of one token, each of which rounds the sums once more: features of degree four are
  // of very different sizes.
  double tolerance = 1e-13;
};

std::vector<NamedModel> Models() {
  const SlimMixerConfig slim{.heads = 2};
  const PerformerMixerConfig random{.heads = 2, .feature_count = 10};
  const PerformerMixerConfig relu{
      .heads = 3, .features = FeatureFunction::kRelu, .feature_count = 5, .feature_epsilon = 1e-3};
  const DeltaMixerConfig delta{.heads = 2};
  const PolysketchMixerConfig sketched{.heads = 2,
                                       .mode = PolysketchMode::kRandomSketch,
                                       .norm = PolysketchNorm::kShared,
                                       .sketch_size = 5,
                                       .block = 4,
                                       .c0 = 0.5};
  const PolysketchMixerConfig learned{.heads = 3,
                                      .mode = PolysketchMode::kLearnedSketch,
                                      .norm = PolysketchNorm::kNone,
                                      .sketch_size = 4,
                                      .block = 3};
  return {{"PolysketchRandom", Tiny({sketched, sketched}), true, 1e-11},
          {"PolysketchLearned", Tiny({learned, learned})},
          {"Slim", SlimStyle({slim, slim})},
          {"SlimWithPositions", LearnedPositions({slim})},
          {"SlimWithDropout", Dropping(Tiny({slim, slim}))},
          {"Performer", Tiny({random, random}), false},
          {"PerformerRelu", Tiny({relu, relu})},
          {"Delta", Tiny({delta, delta}), false},
          {"DeltaWithoutConvolution", Tiny({DeltaMixerConfig{.heads = 3, .convolution_taps = 0}}),
           false},
          {"DeltaWithOneTap", Tiny({DeltaMixerConfig{.heads = 2, .convolution_taps = 1}}), false},
          {"DeltaWithGate", Tiny({DeltaMixerConfig{.heads = 2, .output_gate = true}}), false},
          {"Hybrid", Tiny({delta, slim, random}), false}};
}

std::unique_ptr<const Model> Sliced(const ModelConfig& config, const SliceConfig& slices) {
  return Must(SlicedLanguageModel::Create(config, slices));
}

void SetBatch(ModelFixture& fixture, PassShape shape = kShape) {
  std::vector<int32_t> targets = Tokens(shape.batch * shape.tokens, 11, 3);
  targets[4] = -1;  // not a training example
  fixture.SetBatch(Tokens(shape.batch * shape.tokens, 11, 2), targets);
}

void Fill(ModelFixture& fixture, PassShape shape = kShape) {
  fixture.EnlargeWeights();
  fixture.Train();
  SetBatch(fixture, shape);
}

double RelativeDifference(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0;
  double size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

class SlicedLanguageModelTest : public ::testing::TestWithParam<NamedModel> {
 protected:
  static const ModelConfig& config() { return GetParam().config; }
};

TEST_P(SlicedLanguageModelTest, SlicesOfEveryLengthEqualTheWhole) {
  ModelFixture whole(config(), NewReference(), kShape);
  Fill(whole);
  const std::vector<double> gradient = whole.Gradient(0.25);
  const std::vector<double> losses = whole.Losses();
  for (const int64_t length : {1, 2, 3, 5, 7, 13, 14, 100}) {
    for (const bool keep : {false, true}) {
      ModelFixture sliced(Sliced(config(), {length, keep}), NewReference(), kShape);
      Fill(sliced);
      EXPECT_LE(RelativeDifference(sliced.Gradient(0.25), gradient), GetParam().tolerance)
          << length;
      EXPECT_LE(RelativeDifference(sliced.Losses(), losses), GetParam().tolerance) << length;
    }
  }
}

TEST_P(SlicedLanguageModelTest, LossesOfBothPassesAreThose) {
  ModelFixture sliced(Sliced(config(), {.slice_length = 4}), NewReference(), kShape);
  Fill(sliced);
  const std::vector<double> losses = sliced.Losses();
  sliced.SetBatch(Tokens(28, 11, 8), Tokens(28, 11, 9));
  sliced.Losses();  // others
  SetBatch(sliced);
  sliced.Gradient(1.0);
  EXPECT_LE(RelativeDifference(sliced.ResultLosses(), losses), 1e-13);
}

TEST_P(SlicedLanguageModelTest, SlicesOnTheCpuEqualTheWhole) {
  const PassShape shape{.batch = 1, .tokens = 150};
  ModelConfig longer = config();
  longer.max_positions = longer.positions == PositionKind::kLearned ? 150 : 0;
  ModelFixture whole(longer, NewCpu(2), shape);
  Fill(whole, shape);
  const std::vector<double> gradient = whole.Gradient(1.0);
  const std::vector<double> losses = whole.Losses();
  ModelFixture exact(longer, NewReference(), shape);
  Fill(exact, shape);
  const std::vector<double> exact_gradient = exact.Gradient(1.0);
  const double error = RelativeDifference(gradient, exact_gradient);
  for (const int64_t length : {16, 50}) {
    ModelFixture sliced(Sliced(longer, {.slice_length = length}), NewCpu(2), shape);
    Fill(sliced, shape);
    // As exact as the whole is, up to the roundings of taking slices out again.
    EXPECT_LE(RelativeDifference(sliced.Gradient(1.0), exact_gradient), 2 * error + 1e-6) << length;
    EXPECT_LE(RelativeDifference(sliced.Losses(), losses), 1e-6) << length;
  }
}

TEST_P(SlicedLanguageModelTest, BitsDoNotDependOnTheNumberOfThreads) {
  std::vector<std::vector<double>> gradients;
  for (const int threads : {1, 2, 3}) {
    ModelFixture fixture(Sliced(config(), {.slice_length = 5}), NewCpu(threads), kShape);
    Fill(fixture);
    gradients.push_back(fixture.Gradient(1.0));
  }
  EXPECT_EQ(gradients[0], gradients[1]);
  EXPECT_EQ(gradients[0], gradients[2]);
}

TEST_P(SlicedLanguageModelTest, GradientsAreFinalWhenTheyAreSaidToBe) {
  ModelFixture fixture(Sliced(config(), {.slice_length = 5}), NewReference(), kShape);
  Fill(fixture);
  const std::vector<double> final_gradient = fixture.Gradient(1.0);
  int64_t last = fixture.model().layout().block_count();
  fixture.Gradient(1.0, [&](int64_t first) {
    EXPECT_LT(first, last);
    const std::vector<double> now = fixture.CurrentGradient();
    EXPECT_TRUE(std::equal(now.begin() + first, now.end(), final_gradient.begin() + first));
    last = first;
  });
  EXPECT_EQ(last, 0);
}

// A device that counts what is allocated on another.
class CountingDevice final : public kernels::Device {
 public:
  explicit CountingDevice(kernels::Device& device) : device_(device) {}
  [[nodiscard]] kernels::DeviceKind kind() const override { return device_.kind(); }
  [[nodiscard]] kernels::DType compute_dtype() const override { return device_.compute_dtype(); }
  [[nodiscard]] absl::string_view device_class() const override { return device_.device_class(); }
  absl::StatusOr<std::unique_ptr<kernels::Stream>> NewStream() override {
    return device_.NewStream();
  }
  absl::StatusOr<std::shared_ptr<kernels::Buffer>> Allocate(int64_t bytes) override {
    bytes_ += bytes;
    return device_.Allocate(bytes);
  }
  absl::Status CopyToHost(void* to, const kernels::Tensor& from, kernels::Stream& stream) override {
    return device_.CopyToHost(to, from, stream);
  }
  absl::Status CopyFromHost(kernels::Tensor& to, const void* from,
                            kernels::Stream& stream) override {
    return device_.CopyFromHost(to, from, stream);
  }
  [[nodiscard]] int64_t bytes() const { return bytes_; }

 private:
  kernels::Device& device_;
  int64_t bytes_ = 0;
};

// Bytes of activations for one sequence of `tokens`.
int64_t ActivationBytes(const Model& model, int64_t tokens) {
  const std::unique_ptr<kernels::Device> device = NewCpu(1);
  CountingDevice counting(*device);
  Must(model.NewActivations(counting, {.batch = 1, .tokens = tokens}));
  return counting.bytes();
}

TEST_P(SlicedLanguageModelTest, MemoryDoesNotGrowWithTheSequence) {
  ModelConfig longer = config();
  longer.max_positions = longer.positions == PositionKind::kLearned ? 1 << 20 : 0;
  const auto sliced = Sliced(longer, {.slice_length = 64});
  const int64_t once = ActivationBytes(*sliced, 4096);
  const int64_t twice = ActivationBytes(*sliced, 8192);
  if (GetParam().undoes) {
    EXPECT_EQ(twice, once);
    EXPECT_EQ(ActivationBytes(*sliced, 1 << 20), once);
  } else {
    // 64 more boundaries, of less than 6 KiB a layer in these models.
    EXPECT_GT(twice, once);
    EXPECT_LE(twice - once, 64 * 6144 * static_cast<int64_t>(longer.layers.size()));
  }
  EXPECT_GT(ActivationBytes(*Must(NewModel(longer)), 4096), 8 * once);
}

INSTANTIATE_TEST_SUITE_P(Models, SlicedLanguageModelTest, ::testing::ValuesIn(Models()),
                         [](const auto& instance) { return instance.param.name; });

// Central differences along random directions of each parameter.
TEST(SlicedGradientTest, EqualsFiniteDifferences) {
  for (const NamedModel& model : {Models()[0], Models()[9]}) {
    ModelFixture fixture(Sliced(model.config, {.slice_length = 4}), NewReference(), kShape);
    Fill(fixture);
    const std::vector<double> gradient = fixture.Gradient(1.0);
    const std::vector<double> weights = ToHost(fixture.weights().block(), fixture.stream());
    uint64_t seed = 100;
    for (const Parameter& parameter : fixture.model().layout().parameters()) {
      if (!parameter.trained) continue;
      const auto first = static_cast<size_t>(parameter.offset);
      std::vector<double> direction(static_cast<size_t>(parameter.shape.count()));
      kernels::FillNormal(++seed, {}, 0, 0, absl::MakeSpan(direction));
      constexpr double step_size = 1e-5;
      const auto loss_at = [&](double step) {
        std::vector<double> moved = weights;
        for (size_t i = 0; i < direction.size(); ++i) moved[first + i] += step * direction[i];
        fixture.SetWeights(moved);
        return fixture.Loss();
      };
      const double difference = (8 * (loss_at(step_size) - loss_at(-step_size)) -
                                 (loss_at(2 * step_size) - loss_at(-2 * step_size))) /
                                (12 * step_size);
      double expected = 0;
      double size = 0;
      for (size_t i = 0; i < direction.size(); ++i) {
        expected += gradient[first + i] * direction[i];
        size += std::abs(gradient[first + i] * direction[i]);
      }
      EXPECT_NEAR(difference, expected, 1e-6 * (1 + size)) << model.name << " " << parameter.name;
    }
  }
}

TEST(SlicedLanguageModelConfigTest, SaysWhyAModelCannotBeCut) {
  EXPECT_THAT(
      SlicedLanguageModel::Create(
          Tiny({SlimMixerConfig{.heads = 2}, SoftmaxMixerConfig{.heads = 2}}), {.slice_length = 4}),
      StatusIs(absl::StatusCode::kUnimplemented,
               AllOf(HasSubstr("layer 1 (softmax)"), HasSubstr("no state of fixed size"))));
  for (const auto& [mode, why] : {std::pair(PolysketchMode::kPolynomial, "every pair"),
                                  std::pair(PolysketchMode::kLearnedSketchMixed, "of a block")}) {
    EXPECT_THAT(SlicedLanguageModel::Create(
                    Tiny({PolysketchMixerConfig{
                        .heads = 2, .mode = mode, .norm = PolysketchNorm::kShared}}),
                    {.slice_length = 4}),
                StatusIs(absl::StatusCode::kUnimplemented,
                         AllOf(HasSubstr("layer 0 (polysketch)"), HasSubstr(why))));
  }
  EXPECT_THAT(SlicedLanguageModel::Create(Tiny({SbmMixerConfig{.heads = 2}}), {.slice_length = 4}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("layer 0 (sbm)")));
  ModelConfig classifier = Tiny({SlimMixerConfig{.heads = 2}});
  classifier.kind = ModelKind::kTokenClassifier;
  classifier.classes = 3;
  EXPECT_THAT(SlicedLanguageModel::Create(classifier, {.slice_length = 4}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("only a language model")));
  EXPECT_THAT(SlicedLanguageModel::Create(Tiny({SlimMixerConfig{.heads = 2}}), {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("must be positive")));
}

// ---- One mixer

// A mixer with its weights, cut into slices.
class MixerSlices {
 public:
  MixerSlices(MixerConfig config, int64_t tokens, int64_t slice_length)
      : tokens_(tokens),
        length_(slice_length),
        device_(NewReference()),
        stream_(Must(device_->NewStream())),
        scratch_(*device_),
        config_(std::move(config)),
        mixer_(NewMixer(config_, {.width = kWidth}, "mixer", layout_)),
        sliced_(*Must(AsSliced(config_, *mixer_))),
        weights_(layout_, New({layout_.block_count()})),
        gradients_(layout_, New({layout_.block_count()})),
        x_(Random(1, {1, tokens, kWidth})),
        dy_(Random(2, {1, tokens, kWidth})) {
    Must(InitialiseWeights(/*seed=*/3, *stream_, weights_));
    kernels::Tensor block = weights_.block();
    std::vector<double> values = ToHost(block, *stream_);
    for (double& value : values) value *= 10.0;
    Must(device_->CopyFromHost(block, values.data(), *stream_));
  }

  Boundary NewBoundary(uint32_t seed) {
    Boundary boundary;
    for (const BoundaryPart& part : sliced_.BoundaryParts()) {
      boundary.push_back(seed == 0 ? New(part.shape) : Random(seed + boundary.size(), part.shape));
    }
    return boundary;
  }
  [[nodiscard]] int64_t slices() const { return (tokens_ + length_ - 1) / length_; }

  // Returns the sum of y * dy over the slice.
  double Forward(int64_t slice, SliceStep step, Boundary& boundary) {
    const kernels::Shape shape = ShapeOf(slice);
    activations_ = Must(mixer_->NewActivations(*device_, {1, shape.dim(1)}));
    kernels::Tensor y = New(shape);
    Must(sliced_.ForwardSlice(PassOf(slice), Part(x_, slice), step, boundary, *activations_,
                              /*residual=*/kernels::Tensor(), y));
    const std::vector<double> got = ToHost(y, *stream_);
    const std::vector<double> slopes = ToHost(Part(dy_, slice), *stream_);
    double sum = 0;
    for (size_t i = 0; i < got.size(); ++i) sum += got[i] * slopes[i];
    return sum;
  }
  void Backward(int64_t slice, const Boundary& before, Boundary& gradient) {
    kernels::Tensor dx = New(ShapeOf(slice));
    Must(sliced_.BackwardSlice(PassOf(slice), gradients_, Part(x_, slice), before, *activations_,
                               Part(dy_, slice), gradient, dx));
  }

  std::vector<double> Host(const Boundary& boundary) {
    std::vector<double> values;
    for (const kernels::Tensor& tensor : boundary) {
      for (const double value : ToHost(tensor, *stream_)) values.push_back(value);
    }
    return values;
  }
  void Set(Boundary& boundary, const std::vector<double>& values) {
    const double* from = values.data();
    for (kernels::Tensor& tensor : boundary) {
      Must(device_->CopyFromHost(tensor, from, *stream_));
      from += tensor.count();
    }
  }

 private:
  static constexpr int64_t kWidth = 6;

  kernels::Tensor New(const kernels::Shape& shape) {
    return Must(kernels::NewTensor(*device_, kernels::DType::kF64, shape));
  }
  kernels::Tensor Random(uint64_t seed, const kernels::Shape& shape) {
    kernels::Tensor tensor = New(shape);
    std::vector<double> values(static_cast<size_t>(shape.count()));
    kernels::FillNormal(seed, {}, 0, 0, absl::MakeSpan(values));
    Must(device_->CopyFromHost(tensor, values.data(), *stream_));
    return tensor;
  }
  [[nodiscard]] kernels::Shape ShapeOf(int64_t slice) const {
    return {1, std::min(length_, tokens_ - slice * length_), kWidth};
  }
  [[nodiscard]] kernels::Tensor Part(const kernels::Tensor& tensor, int64_t slice) const {
    return tensor.Part(slice * length_ * kWidth, ShapeOf(slice));
  }
  Pass PassOf(int64_t slice) {
    return {.stream = *stream_,
            .scratch = scratch_,
            .weights = weights_,
            .first_position = slice * length_};
  }

  const int64_t tokens_;
  const int64_t length_;
  std::unique_ptr<kernels::Device> device_;
  std::unique_ptr<kernels::Stream> stream_;
  Scratch scratch_;
  const MixerConfig config_;
  ParameterLayout layout_;
  const std::unique_ptr<const Mixer> mixer_;
  const SlicedMixer& sliced_;
  ParameterBlock weights_, gradients_;
  const kernels::Tensor x_, dy_;
  std::unique_ptr<MixerActivations> activations_;
};

TEST(SlicedMixerTest, UndoingLeadsThroughTheSameBoundariesToNothing) {
  const PerformerMixerConfig relu{
      .heads = 3, .features = FeatureFunction::kRelu, .feature_count = 5, .feature_epsilon = 0};
  for (const MixerConfig& config : {MixerConfig(SlimMixerConfig{.heads = 2}), MixerConfig(relu)}) {
    MixerSlices mixer(config, /*tokens=*/22, /*slice_length=*/4);
    Boundary boundary = mixer.NewBoundary(0);
    std::vector<std::vector<double>> stored;
    for (int64_t slice = 0; slice < mixer.slices(); ++slice) {
      stored.push_back(mixer.Host(boundary));
      mixer.Forward(slice, SliceStep::kAdvance, boundary);
    }
    const std::vector<double> end = mixer.Host(boundary);
    double size = 0;
    for (const double value : end) size = std::max(size, std::abs(value));
    EXPECT_GT(size, 0.1);
    for (int64_t slice = mixer.slices() - 1; slice >= 0; --slice) {
      mixer.Forward(slice, SliceStep::kUndo, boundary);
      const std::vector<double> got = mixer.Host(boundary);
      for (size_t i = 0; i < got.size(); ++i) {
        EXPECT_NEAR(got[i], stored[static_cast<size_t>(slice)][i], 1e-14 * size) << slice;
      }
    }
  }
}

// A boundary that no tokens have made: the gradient that comes out of the first slice is that of
// the boundary that went in.
TEST(SlicedMixerTest, TheGradientOfTheFirstBoundaryEqualsDifferences) {
  const MixerConfig configs[] = {
      SlimMixerConfig{.heads = 2}, DeltaMixerConfig{.heads = 2},
      DeltaMixerConfig{.heads = 2, .convolution_taps = 7},  // more than a slice has tokens
      PerformerMixerConfig{.heads = 3,
                           .features = FeatureFunction::kElu1,
                           .feature_count = 4,
                           .feature_epsilon = 0.1}};
  for (const MixerConfig& config : configs) {
    MixerSlices mixer(config, /*tokens=*/10, /*slice_length=*/4);
    Boundary start = mixer.NewBoundary(50);
    std::vector<double> values = mixer.Host(start);
    for (double& value : values)
      value = 0.2 + 0.1 * std::abs(value);  // sums of weights are positive
    const auto loss = [&](const std::vector<double>& at) {
      Boundary boundary = mixer.NewBoundary(0);
      mixer.Set(boundary, at);
      double sum = 0;
      for (int64_t slice = 0; slice < mixer.slices(); ++slice) {
        sum += mixer.Forward(slice, SliceStep::kAdvance, boundary);
      }
      return sum;
    };
    // Boundaries before each slice, then the way back.
    std::vector<std::vector<double>> before = {values};
    Boundary boundary = mixer.NewBoundary(0);
    mixer.Set(boundary, values);
    for (int64_t slice = 0; slice < mixer.slices(); ++slice) {
      mixer.Forward(slice, SliceStep::kAdvance, boundary);
      before.push_back(mixer.Host(boundary));
    }
    Boundary gradient = mixer.NewBoundary(0);  // nothing comes after the last slice
    for (int64_t slice = mixer.slices() - 1; slice >= 0; --slice) {
      mixer.Set(boundary, before[static_cast<size_t>(slice)]);
      mixer.Forward(slice, SliceStep::kReplay, boundary);
      EXPECT_EQ(mixer.Host(boundary), before[static_cast<size_t>(slice)]);
      mixer.Backward(slice, boundary, gradient);
    }
    const std::vector<double> got = mixer.Host(gradient);
    for (size_t i = 0; i < values.size(); ++i) {
      const auto at = [&](double steps) {
        std::vector<double> moved = values;
        moved[i] += steps * 2e-4;
        return loss(moved);
      };
      const double slope = (at(-2) - 8 * at(-1) + 8 * at(1) - at(2)) / 24e-4;
      EXPECT_NEAR(got[i], slope, 1e-8 * (1 + std::abs(slope))) << NameOf(config) << " " << i;
    }
  }
}

}  // namespace
}  // namespace weft::worker
