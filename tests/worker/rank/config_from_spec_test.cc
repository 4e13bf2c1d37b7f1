#include "worker/rank/config_from_spec.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "proto/spec/parse.h"
#include "proto/spec/violation.h"
#include "tests/testing/status_matchers.h"

namespace weft::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using weft::testing::IsOk;
using weft::testing::StatusIs;

v1::JobSpec Parse(const std::string& text) {
  v1::JobSpec spec;
  EXPECT_THAT(spec::ToStatus(spec::ParseSpec(text, spec)), IsOk());
  return spec;
}

constexpr char kFull[] = R"(
name: everything
model:
  vocab_size: 1000
  width: 48
  layers: 5
  mlp_width: 96
  norm_epsilon: 1e-5
  mixers:
    - delta: {heads: 4, convolution_taps: 3, beta_range: 2, output_gate: true}
    - softmax: {heads: 6, kv_heads: 3, window: 32, rotary_base: 500}
  overrides:
    - layers: [4]
      mixer: {softmax: {heads: 2}}
data:
  tokens: {paths: [a.bin, /data/b.bin]}
  validation_fraction: 0.2
training:
  steps: 70
  batch_size: 24
  sequence_length: 64
  shards: 4
  micro_batch_size: 3
  seed: 9
  clip_norm: 0.5
  optimizer: {beta1: 0.8, beta2: 0.99, epsilon: 1e-6, weight_decay: 0.3}
  learning_rate: {peak: 0.002, schedule: one_cycle, warmup_steps: 7, final_ratio: 0.01}
checkpoint: {every_steps: 11}
evaluation: {every_steps: 13, sequences: 17}
)";

TEST(ConfigFromSpecTest, CarriesEveryFieldOver) {
  const auto config = ConfigFromSpec(Parse(kFull), "/root/data");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->model.vocabulary, 1000);
  EXPECT_EQ(config->model.width, 48);
  EXPECT_EQ(config->model.hidden, 96);
  EXPECT_EQ(config->model.norm_epsilon, 1e-5);
  ASSERT_EQ(config->model.layers.size(), 5U);
  for (const size_t layer : {0, 2}) {
    const auto& delta = std::get<DeltaMixerConfig>(config->model.layers[layer]);
    EXPECT_EQ(delta.heads, 4);
    EXPECT_EQ(delta.convolution_taps, 3);
    EXPECT_TRUE(delta.negative_eigenvalues);
    EXPECT_TRUE(delta.output_gate);
  }
  for (const size_t layer : {1, 3}) {
    const auto& softmax = std::get<SoftmaxMixerConfig>(config->model.layers[layer]);
    EXPECT_EQ(softmax.heads, 6);
    EXPECT_EQ(softmax.kv_heads, 3);
    EXPECT_EQ(softmax.window, 32);
    EXPECT_EQ(softmax.rotary_base, 500);
  }
  const auto& exception = std::get<SoftmaxMixerConfig>(config->model.layers[4]);
  EXPECT_EQ(exception.heads, 2);
  EXPECT_EQ(exception.kv_heads, 2);  // as many as heads
  EXPECT_EQ(exception.window, 0);
  EXPECT_THAT(std::get<TokenFiles>(config->data.source).paths,
              ElementsAre("/root/data/a.bin", "/data/b.bin"));
  EXPECT_EQ(config->data.validation_fraction, 0.2);
  EXPECT_EQ(config->steps, 70);
  EXPECT_EQ(config->batch.sequences, 24);
  EXPECT_EQ(config->batch.sequence_length, 64);
  EXPECT_EQ(config->batch.shards, 4);
  EXPECT_EQ(config->batch.micro_batch, 3);
  EXPECT_EQ(config->seed, 9U);
  EXPECT_EQ(config->clip_norm, 0.5);
  EXPECT_EQ(config->optimizer.beta1, 0.8);
  EXPECT_EQ(config->optimizer.beta2, 0.99);
  EXPECT_EQ(config->optimizer.epsilon, 1e-6);
  EXPECT_EQ(config->optimizer.weight_decay, 0.3);
  EXPECT_EQ(config->learning_rate.peak, 0.002);
  EXPECT_EQ(config->learning_rate.schedule, Schedule::kOneCycle);
  EXPECT_EQ(config->learning_rate.warmup_steps, 7);
  EXPECT_EQ(config->learning_rate.final_ratio, 0.01);
  EXPECT_EQ(config->learning_rate.total_steps, 70);
  EXPECT_EQ(config->checkpoint.every_steps, 11);
  EXPECT_EQ(config->evaluation.every_steps, 13);
  EXPECT_EQ(config->evaluation.sequences, 17);
}

TEST(ConfigFromSpecTest, CarriesTheStyleOfTheModelOver) {
  std::string text = kFull;
  text.replace(text.find("norm_epsilon: 1e-5"), 18, R"(norm_epsilon: 1e-5
  norm: layer
  norm_placement: output
  final_norm: false
  mlp: geglu
  positions: learned
  max_positions: 77
  tied_embeddings: true
  biases: {projections: true, output: true, mlp: true, logits: true}
  output_projection: false
  dropout: {embedding: 0.1, sublayer: 0.2, mlp_hidden: 0.3}
  initialisation: torch
  embedding_deviation: 0.25)");
  const auto config = ConfigFromSpec(Parse(text), "");
  ASSERT_THAT(config, IsOk());
  const ModelConfig& model = config->model;
  EXPECT_EQ(model.norm, NormKind::kLayer);
  EXPECT_EQ(model.norm_placement, NormPlacement::kOutput);
  EXPECT_FALSE(model.final_norm);
  EXPECT_EQ(model.mlp, MlpKind::kGeglu);
  EXPECT_EQ(model.positions, PositionKind::kLearned);
  EXPECT_EQ(model.max_positions, 77);
  EXPECT_TRUE(model.tied);
  EXPECT_TRUE(model.biases.projections && model.biases.output && model.biases.mlp &&
              model.biases.logits);
  EXPECT_FALSE(model.output_projection);
  EXPECT_EQ(model.dropout.embedding, 0.1);
  EXPECT_EQ(model.dropout.attention, 0);
  EXPECT_EQ(model.dropout.sublayer, 0.2);
  EXPECT_EQ(model.dropout.mlp_hidden, 0.3);
  EXPECT_EQ(model.weights, WeightScheme::kTorch);
  EXPECT_EQ(model.embedding_deviation, 0.25);
}

TEST(ConfigFromSpecTest, KnowsEveryMlpPositionAndInitialisation) {
  const auto with = [](const std::string& field) {
    std::string text = kFull;
    text.replace(text.find("norm_epsilon: 1e-5"), 18, field);
    return ConfigFromSpec(Parse(text), "")->model;
  };
  EXPECT_EQ(with("mlp: gelu").mlp, MlpKind::kGelu);
  EXPECT_EQ(with("mlp: gelu_tanh").mlp, MlpKind::kGeluTanh);
  EXPECT_EQ(with("mlp: swiglu").mlp, MlpKind::kSwiglu);
  EXPECT_EQ(with("positions: sinusoidal").positions, PositionKind::kSinusoidal);
  EXPECT_EQ(with("positions: sinusoidal_concatenated").positions,
            PositionKind::kSinusoidalConcatenated);
  EXPECT_EQ(with("positions: none").positions, PositionKind::kNone);
  EXPECT_EQ(with("initialisation: lecun").weights, WeightScheme::kLecun);
  EXPECT_EQ(with("initialisation: xavier_uniform").weights, WeightScheme::kXavierUniform);
  EXPECT_EQ(with("initialisation: normal").weights, WeightScheme::kNormal);
  EXPECT_EQ(with("norm: layer").norm_placement, NormPlacement::kInput);
  // Without a word the model is what it was before there were words for it.
  ModelConfig plain;
  plain.layers = with("norm: rms").layers;
  plain.vocabulary = 1000;
  plain.width = 48;
  plain.hidden = 96;
  EXPECT_EQ(Canonical(with("norm: rms")), Canonical(plain));
}

TEST(ConfigFromSpecTest, CarriesTheSliceLengthOver) {
  EXPECT_EQ(ConfigFromSpec(Parse(kFull), "")->slice_length, 0);
  v1::JobSpec spec = Parse(kFull);
  spec.mutable_model()->clear_overrides();
  spec.mutable_model()->mutable_mixers()->DeleteSubrange(1, 1);
  spec.mutable_memory()->set_slice_length(24);
  EXPECT_EQ(ConfigFromSpec(spec, "")->slice_length, 24);
}

TEST(ConfigFromSpecTest, CarriesThePartsOfSchedulesOver) {
  std::string text = kFull;
  text.replace(text.find("{peak: 0.002, schedule: one_cycle,"), 34,
               "{peak: 0.002, schedule: step, initial_ratio: 0.25, hold_steps: 30,");
  text.replace(text.find("beta1: 0.8"), 10, "beta1: 0.8, beta1_at_peak: 0.7");
  const auto config = ConfigFromSpec(Parse(text), "");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->learning_rate.schedule, Schedule::kStep);
  EXPECT_EQ(config->learning_rate.initial_ratio, 0.25);
  EXPECT_EQ(config->learning_rate.hold_steps, 30);
  EXPECT_EQ(config->optimizer.beta1_at_peak, 0.7);
}

TEST(ConfigFromSpecTest, KnowsEverySchedule) {
  const std::pair<const char*, Schedule> schedules[] = {
      {"constant", Schedule::kConstant},  {"cosine", Schedule::kCosine},
      {"linear", Schedule::kLinear},      {"inverse_sqrt", Schedule::kInverseSqrt},
      {"one_cycle", Schedule::kOneCycle},
  };
  for (const auto& [name, schedule] : schedules) {
    std::string text = kFull;
    text.replace(text.find("one_cycle"), 9, name);
    EXPECT_EQ(ConfigFromSpec(Parse(text), "")->learning_rate.schedule, schedule) << name;
  }
}

TEST(ConfigFromSpecTest, FillsInDefaults) {
  const auto config = ConfigFromSpec(Parse(R"(
name: small
model: {width: 64, layers: 2, mixers: [{delta: {heads: 2}}]}
data: {text: {paths: [/texts]}}
training: {steps: 10, batch_size: 6, sequence_length: 32}
)"),
                                     "/root/data");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->model.vocabulary, 256);
  EXPECT_EQ(config->model.hidden, DefaultHidden(64));
  EXPECT_EQ(std::get<DeltaMixerConfig>(config->model.layers[0]).convolution_taps, 4);
  EXPECT_FALSE(std::get<DeltaMixerConfig>(config->model.layers[0]).negative_eigenvalues);
  EXPECT_EQ(config->batch.shards, 6);
  EXPECT_EQ(config->batch.micro_batch, 1);
  EXPECT_EQ(config->learning_rate.schedule, Schedule::kCosine);
  EXPECT_EQ(config->clip_norm, 1.0);
  EXPECT_THAT(std::get<TextFiles>(config->data.source).paths, ElementsAre("/texts"));
}

TEST(ConfigFromSpecTest, CarriesClassifiersOver) {
  const auto config = ConfigFromSpec(Parse(R"(
name: pairs
model:
  kind: two_tower
  width: 64
  layers: 2
  classes: 3
  pooling: leading_token
  head_width: 48
  pair_products: false
  mixers: [{softmax: {heads: 2, rotary_base: 0}}]
data: {aan: {folder: a}}
training: {steps: 10, batch_size: 6, sequence_length: 32}
)"),
                                     "");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->model.kind, ModelKind::kTwoTower);
  EXPECT_EQ(config->model.vocabulary, 257);
  EXPECT_EQ(config->model.classes, 3);
  EXPECT_EQ(config->model.pooling, Pooling::kLeadingToken);
  EXPECT_EQ(config->model.head_hidden, 48);
  EXPECT_FALSE(config->model.pair_products);
  EXPECT_TRUE(config->model.padded);
  EXPECT_EQ(std::get<SoftmaxMixerConfig>(config->model.layers[0]).rotary_base, 0);
}

TEST(ConfigFromSpecTest, KnowsEveryKindOfModel) {
  const auto kind = [](const std::string& name, const std::string& data) {
    const auto config = ConfigFromSpec(
        Parse(absl::StrCat("name: a\nmodel: {kind: ", name, ", width: 8, layers: 1, mixers: ",
                           "[{softmax: {heads: 1}}]}\ndata: {", data,
                           "}\ntraining: ", "{steps: 1, batch_size: 1, sequence_length: 1024}\n")),
        "");
    EXPECT_THAT(config, IsOk());
    return config->model;
  };
  EXPECT_EQ(kind("language_model", "recall: {pairs: 2}").kind, ModelKind::kLanguageModel);
  EXPECT_EQ(kind("token_classifier", "repeated_tokens: {}").kind, ModelKind::kTokenClassifier);
  EXPECT_EQ(kind("two_tower", "aan: {folder: a}").kind, ModelKind::kTwoTower);
  const ModelConfig classifier = kind("classifier", "cifar10: {folder: a}");
  EXPECT_EQ(classifier.kind, ModelKind::kClassifier);
  EXPECT_EQ(classifier.classes, 10);
  EXPECT_FALSE(classifier.padded);
}

TEST(ConfigFromSpecTest, NamesAllThatIsWrong) {
  std::string text = kFull;
  text.replace(text.find("heads: 4"), 8, "heads: 5");
  text.replace(text.find("micro_batch_size: 3"), 19, "micro_batch_size: 4");
  const absl::Status status = ConfigFromSpec(Parse(text), "").status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("heads")));
  EXPECT_THAT(status.message(), HasSubstr("micro_batch_size"));
}

}  // namespace
}  // namespace weft::worker
