// Job specs: reading, resolving, printing, and one clear sentence for everything that can be wrong.

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "proto/spec/parse.h"
#include "proto/spec/print.h"
#include "proto/spec/resolve.h"
#include "tests/testing/status_matchers.h"

namespace weft::spec {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr char kDemo[] = R"(
name: demo
model:
  width: 128
  layers: 4
  mixers:
    - delta: {heads: 2}
    - softmax: {heads: 4, window: 64}
  overrides:
    - layers: [3]
      mixer: {softmax: {heads: 2, kv_heads: 1}}
data:
  text: {paths: [/usr/share/common-licenses]}
training:
  steps: 200
  batch_size: 16
  sequence_length: 256
  learning_rate: {peak: 1e-3, schedule: one_cycle, warmup_steps: 20}
resources: {device: cpu, min_workers: 1, max_workers: 2}
retry: {initial_backoff: 500ms, max_backoff: 1m30s}
)";

::testing::Matcher<Violation> Says(const std::string& field, const std::string& part) {
  return AllOf(Field(&Violation::field, field), Field(&Violation::description, HasSubstr(part)));
}

v1::JobSpec Parsed(absl::string_view text) {
  v1::JobSpec spec;
  EXPECT_THAT(ParseSpec(text, spec), IsEmpty());
  return spec;
}

std::vector<Violation> ParseErrors(absl::string_view text) {
  v1::JobSpec spec;
  return ParseSpec(text, spec);
}

v1::JobSpec Demo() { return Parsed(kDemo); }

TEST(ParseSpec, ReadsEveryKindOfField) {
  const v1::JobSpec spec = Demo();
  EXPECT_EQ(spec.name(), "demo");
  EXPECT_EQ(spec.model().mixers(1).softmax().window(), 64);
  EXPECT_EQ(spec.model().overrides(0).layers(0), 3);
  EXPECT_EQ(spec.data().text().paths(0), "/usr/share/common-licenses");
  EXPECT_EQ(spec.training().learning_rate().peak(), 1e-3);
  EXPECT_EQ(spec.training().learning_rate().schedule(), v1::LearningRateSpec::SCHEDULE_ONE_CYCLE);
  EXPECT_EQ(spec.resources().device(), v1::DEVICE_KIND_CPU);
  EXPECT_EQ(spec.retry().initial_backoff().nanos(), 500'000'000);
  EXPECT_EQ(spec.retry().max_backoff().seconds(), 90);
}

TEST(ParseSpec, ReadsJson) {
  EXPECT_EQ(Parsed(R"({"name": "a", "model": {"width": 8, "layers": 2}})").model().width(), 8);
}

TEST(ParseSpec, NamesUnknownFieldsWithTheNearestOneAndTheLine) {
  EXPECT_THAT(ParseErrors("name: a\ntraining:\n  batchsize: 4\n"),
              ElementsAre(AllOf(Says("training.batchsize", "did you mean batch_size?"),
                                Says("training.batchsize", "line 3"))));
}

TEST(ParseSpec, NamesEveryWrongTypeAtOnce) {
  EXPECT_THAT(
      ParseErrors(R"(
name: [a]
priority: high
model: 3
training: {steps: 1.5, batch_size: "16", sequence_length: 99999999999, seed: -1}
data: {text: {paths: /etc}}
resources: {device: tpu}
retry: {initial_backoff: soon}
)"),
      UnorderedElementsAre(
          Says("name", "a text"), Says("priority", "is 'high'"), Says("model", "a mapping"),
          Says("training.steps", "a whole number"), Says("training.batch_size", "'16'"),
          Says("training.sequence_length", "2147483647"), Says("training.seed", "from 0"),
          Says("data.text.paths", "a list"), Says("resources.device", "one of cpu, gpu, any"),
          Says("retry.initial_backoff", "500ms")));
}

// Protobuf would refuse to send it, without a word about where it is.
TEST(ParseSpec, NamesTextThatIsNoUtf8) {
  EXPECT_THAT(ParseErrors("name: \xFF\ndata: {text: {paths: [Zo\xC3\xAB, Zo\xEB]}}\n"),
              ElementsAre(Says("name", "must be UTF-8 (line 1)"),
                          Says("data.text.paths[1]", "must be UTF-8 (line 2)")));
}

TEST(ParseSpec, RefusesTwoOfAKindAndRepeatedKeys) {
  EXPECT_THAT(ParseErrors("data: {text: {paths: [a]}, tokens: {paths: [b]}}"),
              ElementsAre(Says("data.tokens", "only one of text and tokens")));
  EXPECT_THAT(ParseErrors("name: a\nname: b\n"), ElementsAre(Says("name", "given twice")));
}

TEST(ParseSpec, RefusesWhatIsNoSpecAtAll) {
  EXPECT_THAT(ParseErrors(""), ElementsAre(Says("", "is empty")));
  EXPECT_THAT(ParseErrors("a: 1\n---\nb: 2\n"), ElementsAre(Says("", "several")));
  EXPECT_THAT(ParseErrors("name: [\n"), ElementsAre(Says("", "is not YAML")));
  EXPECT_THAT(ParseErrors("just words"), ElementsAre(Says("", "mapping")));
  EXPECT_THAT(ParseErrors("name:\n"), ElementsAre(Says("name", "is empty")));
}

TEST(ResolveSpec, FillsTheDocumentedDefaults) {
  v1::JobSpec spec = Demo();
  ASSERT_THAT(ResolveSpec(spec), IsEmpty());
  EXPECT_EQ(spec.queue(), "default");
  EXPECT_EQ(spec.model().vocab_size(), 256);
  EXPECT_EQ(spec.model().mlp_width(), 512);  // 256 * ceil(341 / 256)
  EXPECT_EQ(spec.model().mixers(0).delta().convolution_taps(), 4);
  EXPECT_EQ(spec.model().mixers(1).softmax().kv_heads(), 4);
  EXPECT_EQ(spec.model().norm(), v1::ModelSpec::NORM_RMS);
  EXPECT_EQ(spec.model().norm_placement(), v1::ModelSpec::NORM_PLACEMENT_INPUT);
  EXPECT_EQ(spec.model().mlp(), v1::ModelSpec::MLP_SWIGLU);
  EXPECT_EQ(spec.model().positions(), v1::ModelSpec::POSITIONS_NONE);
  EXPECT_EQ(spec.model().initialisation(), v1::ModelSpec::INITIALISATION_NORMAL);
  EXPECT_TRUE(spec.model().final_norm());
  EXPECT_TRUE(spec.model().output_projection());
  EXPECT_FALSE(spec.model().tied_embeddings());
  EXPECT_FALSE(spec.model().biases().logits());
  EXPECT_EQ(spec.model().dropout().sublayer(), 0);
  EXPECT_EQ(spec.memory().slice_length(), 0);
  EXPECT_TRUE(spec.memory().has_sharded_optimizer());
  EXPECT_FALSE(spec.memory().sharded_optimizer());
  EXPECT_EQ(spec.training().shards(), 8);
  EXPECT_EQ(spec.training().micro_batch_size(), 2);
  EXPECT_EQ(spec.training().reproducibility(), v1::REPRODUCIBILITY_EXACT);
  EXPECT_EQ(spec.checkpoint().keep(), 2);
}

TEST(ResolveSpec, ComputesInBf16OnGpusUnlessTold) {
  for (const auto& [device, precision] : {std::pair{v1::DEVICE_KIND_CPU, v1::PRECISION_FP32},
                                          std::pair{v1::DEVICE_KIND_GPU, v1::PRECISION_BF16},
                                          std::pair{v1::DEVICE_KIND_ANY, v1::PRECISION_FP32}}) {
    v1::JobSpec spec = Demo();
    spec.mutable_resources()->set_device(device);
    ASSERT_THAT(ResolveSpec(spec), IsEmpty());
    EXPECT_EQ(spec.training().precision(), precision);
  }
}

TEST(ResolveSpec, TakesAFixedGangOfGpus) {
  v1::JobSpec spec = Demo();
  spec.mutable_training()->set_reproducibility(v1::REPRODUCIBILITY_FIXED_GANG);
  spec.mutable_resources()->set_device(v1::DEVICE_KIND_GPU);
  spec.mutable_resources()->set_min_workers(2);
  EXPECT_THAT(ResolveSpec(spec), IsEmpty());
}

TEST(ResolveSpec, GivesThePapersHiddenWidths) {
  for (const auto& [width, mlp] : {std::pair{1024, 2816}, std::pair{2048, 5632}}) {
    v1::JobSpec spec = Demo();
    spec.mutable_model()->set_width(width);
    ASSERT_THAT(ResolveSpec(spec), IsEmpty());
    EXPECT_EQ(spec.model().mlp_width(), mlp);
  }
}

TEST(ResolveSpec, ChoosesShardsThatDivideTheBatch) {
  v1::JobSpec spec = Demo();
  spec.mutable_training()->set_batch_size(18);
  ASSERT_THAT(ResolveSpec(spec), IsEmpty());
  EXPECT_EQ(spec.training().shards(), 6);
}

TEST(ResolveSpec, IsIdempotent) {
  v1::JobSpec once = Demo();
  ResolveSpec(once);
  v1::JobSpec twice = once;
  EXPECT_THAT(ResolveSpec(twice), IsEmpty());
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(once, twice));
}

TEST(ResolveSpec, NamesWhatIsRequired) {
  v1::JobSpec spec;
  EXPECT_THAT(ResolveSpec(spec),
              ::testing::IsSupersetOf({Says("name", "required"), Says("model", "required"),
                                       Says("data", "required"), Says("training", "required")}));
}

struct BadSpec {
  const char* name;
  void (*spoil)(v1::JobSpec&);
  const char* field;
  const char* says;
};

class ResolveSpecRefuses : public ::testing::TestWithParam<BadSpec> {};

TEST_P(ResolveSpecRefuses, WithOneSentence) {
  v1::JobSpec spec = Demo();
  GetParam().spoil(spec);
  EXPECT_THAT(ResolveSpec(spec), ElementsAre(Says(GetParam().field, GetParam().says)));
}

const std::vector<BadSpec>& BadSpecs() {
  static const auto& specs = *new std::vector<BadSpec>{
      {"Name", [](auto& s) { s.set_name("De mo"); }, "name", "lower-case"},
      {"Queue", [](auto& s) { s.set_queue("-"); }, "queue", "lower-case"},
      {"Priority", [](auto& s) { s.set_priority(1001); }, "priority", "-1000 to 1000"},
      {"Vocabulary", [](auto& s) { s.mutable_model()->set_vocab_size(128); }, "model.vocab_size",
       "at least 256"},
      {"Heads",
       [](auto& s) { s.mutable_model()->mutable_mixers(0)->mutable_delta()->set_heads(3); },
       "model.mixers[0].delta.heads", "must divide model.width (128), is 3"},
      {"NoHeads",
       [](auto& s) { s.mutable_model()->mutable_mixers(0)->mutable_delta()->set_heads(0); },
       "model.mixers[0].delta.heads", "must be greater than 0, is 0 or missing"},
      {"OddHeads",
       [](auto& s) { s.mutable_model()->mutable_mixers(1)->mutable_softmax()->set_heads(128); },
       "model.mixers[1].softmax.heads", "even"},
      {"KvHeads",
       [](auto& s) { s.mutable_model()->mutable_mixers(1)->mutable_softmax()->set_kv_heads(3); },
       "model.mixers[1].softmax.kv_heads", "divide heads (4)"},
      {"Window",
       [](auto& s) { s.mutable_model()->mutable_mixers(1)->mutable_softmax()->set_window(-1); },
       "model.mixers[1].softmax.window", "0 to"},
      {"Beta",
       [](auto& s) { s.mutable_model()->mutable_mixers(0)->mutable_delta()->set_beta_range(3); },
       "model.mixers[0].delta.beta_range", "1 or 2"},
      {"NoMechanism", [](auto& s) { s.mutable_model()->mutable_mixers(0)->Clear(); },
       "model.mixers[0]", "one of delta, performer, polysketch, sbm, scatterbrain, slim, softmax"},
      {"NoMixer", [](auto& s) { s.mutable_model()->clear_mixers(); }, "model.mixers",
       "at least one"},
      {"OverrideBeyond", [](auto& s) { s.mutable_model()->mutable_overrides(0)->set_layers(0, 4); },
       "model.overrides[0].layers", "0 to 3"},
      {"OverrideTwice", [](auto& s) { s.mutable_model()->mutable_overrides(0)->add_layers(3); },
       "model.overrides[0].layers", "twice"},
      {"Dropout", [](auto& s) { s.mutable_model()->mutable_dropout()->set_sublayer(1); },
       "model.dropout.sublayer", "below 1"},
      {"DropoutOfNoWeights",
       [](auto& s) { s.mutable_model()->mutable_dropout()->set_attention(0.1); },
       "model.dropout.attention", "delta has no attention weights"},
      {"LearnedPositions",
       [](auto& s) { s.mutable_model()->set_positions(v1::ModelSpec::POSITIONS_LEARNED); },
       "model.max_positions", "must be 256 to"},
      {"MaxPositions", [](auto& s) { s.mutable_model()->set_max_positions(5); },
       "model.max_positions", "is for learned positions"},
      {"TiedHalf",
       [](auto& s) {
         s.mutable_model()->set_positions(v1::ModelSpec::POSITIONS_SINUSOIDAL_CONCATENATED);
         s.mutable_model()->set_tied_embeddings(true);
       },
       "model.tied_embeddings", "half the width"},
      {"UnknownNorm", [](auto& s) { s.mutable_model()->set_norm(v1::ModelSpec::Norm(9)); },
       "model.norm", "one of rms, layer"},
      {"Deviation", [](auto& s) { s.mutable_model()->set_embedding_deviation(0); },
       "model.embedding_deviation", "greater than 0"},
      {"Slices", [](auto& s) { s.mutable_memory()->set_slice_length(16); }, "memory.slice_length",
       "softmax has no state of fixed size"},
      {"SlicesOfMixedSketches",
       [](auto& s) {
         s.mutable_model()->clear_mixers();
         s.mutable_model()->clear_overrides();
         s.mutable_model()->add_mixers()->mutable_polysketch()->set_heads(2);
         s.mutable_memory()->set_slice_length(16);
       },
       "memory.slice_length", "random_sketch"},
      {"SliceLength", [](auto& s) { s.mutable_memory()->set_slice_length(-1); },
       "memory.slice_length", "0 to"},
      {"NoPaths", [](auto& s) { s.mutable_data()->mutable_text()->clear_paths(); },
       "data.text.paths", "at least one"},
      {"NoSource", [](auto& s) { s.mutable_data()->clear_text(); }, "data", "text, tokens"},
      {"Validation", [](auto& s) { s.mutable_data()->set_validation_fraction(0.6); },
       "data.validation_fraction", "0 to 0.5"},
      {"ValidationNan",
       [](auto& s) {
         s.mutable_data()->set_validation_fraction(std::numeric_limits<double>::quiet_NaN());
       },
       "data.validation_fraction", "nan"},
      {"Steps", [](auto& s) { s.mutable_training()->set_steps(-1); }, "training.steps",
       "greater than 0"},
      {"Batch", [](auto& s) { s.mutable_training()->set_shards(5); }, "training.batch_size",
       "divisible by training.shards (5), is 16"},
      {"Micro", [](auto& s) { s.mutable_training()->set_micro_batch_size(3); },
       "training.micro_batch_size", "must divide the 2"},
      {"Clip", [](auto& s) { s.mutable_training()->set_clip_norm(-1); }, "training.clip_norm",
       "0 (no clipping)"},
      {"Beta1", [](auto& s) { s.mutable_training()->mutable_optimizer()->set_beta1(1); },
       "training.optimizer.beta1", "below 1"},
      {"Warmup",
       [](auto& s) { s.mutable_training()->mutable_learning_rate()->set_warmup_steps(200); },
       "training.learning_rate.warmup_steps", "0 to training.steps - 1 (199)"},
      {"InitialRatioWithoutALine",
       [](auto& s) { s.mutable_training()->mutable_learning_rate()->set_initial_ratio(0.04); },
       "training.learning_rate.initial_ratio", "on a line"},
      {"HoldWithoutStep",
       [](auto& s) { s.mutable_training()->mutable_learning_rate()->set_hold_steps(3); },
       "training.learning_rate.hold_steps", "is for the schedule step"},
      {"StepWithoutHold",
       [](auto& s) {
         s.mutable_training()->mutable_learning_rate()->set_schedule(
             v1::LearningRateSpec::SCHEDULE_STEP);
       },
       "training.learning_rate.hold_steps", "above warmup_steps (20)"},
      {"BetaAtPeak",
       [](auto& s) { s.mutable_training()->mutable_optimizer()->set_beta1_at_peak(1); },
       "training.optimizer.beta1_at_peak", "below 1"},
      {"TooManyWorkers", [](auto& s) { s.mutable_resources()->set_max_workers(9); },
       "resources.max_workers", "training.shards (8)"},
      {"MaxBelowMin", [](auto& s) { s.mutable_resources()->set_min_workers(3); },
       "resources.max_workers", "min_workers (3)"},
      {"FixedGangOfCores",
       [](auto& s) { s.mutable_training()->set_reproducibility(v1::REPRODUCIBILITY_FIXED_GANG); },
       "training.reproducibility", "fixed_gang needs resources.device: gpu"},
      {"FixedGangThatChanges",
       [](auto& s) {
         s.mutable_training()->set_reproducibility(v1::REPRODUCIBILITY_FIXED_GANG);
         s.mutable_resources()->set_device(v1::DEVICE_KIND_GPU);
       },
       "training.reproducibility", "max_workers (2) to be resources.min_workers (1)"},
      {"NoReproducibility",
       [](auto& s) { s.mutable_training()->set_reproducibility(v1::REPRODUCIBILITY_UNSPECIFIED); },
       "training.reproducibility", "one of exact, fixed_gang"},
      {"Keep", [](auto& s) { s.mutable_checkpoint()->set_keep(0); }, "checkpoint.keep",
       "1 to 1000"},
      {"Backoff",
       [](auto& s) {
         s.mutable_retry()->mutable_max_backoff()->set_seconds(0);
         s.mutable_retry()->mutable_max_backoff()->set_nanos(0);
       },
       "retry.max_backoff (seconds)", "0.5 to"},
  };
  return specs;
}

INSTANTIATE_TEST_SUITE_P(All, ResolveSpecRefuses, ::testing::ValuesIn(BadSpecs()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(PrintedSpec, IsReadBackUnchanged) {
  v1::JobSpec spec = Demo();
  ResolveSpec(spec);
  spec.mutable_data()->mutable_text()->add_paths("12");
  spec.mutable_data()->mutable_text()->add_paths("a: b # \"c\"\n");
  spec.mutable_training()->set_seed(std::numeric_limits<uint64_t>::max());
  spec.mutable_training()->mutable_learning_rate()->set_peak(0.1 + 0.2);
  for (const std::string& text : {SpecToYaml(spec), SpecToJson(spec)}) {
    EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(spec, Parsed(text))) << text;
  }
}

TEST(SpecToJson, WritesEnumsNumbersAndDurationsAsASpecHasThem) {
  v1::JobSpec spec;
  spec.mutable_resources()->set_device(v1::DEVICE_KIND_CPU);
  spec.mutable_training()->set_steps(int64_t{1} << 40);
  spec.mutable_retry()->mutable_initial_backoff()->set_seconds(10);
  EXPECT_EQ(SpecToJson(spec), R"({
 "training": {
  "steps": 1099511627776
 },
 "resources": {
  "device": "cpu"
 },
 "retry": {
  "initial_backoff": "10s"
 }
}
)");
}

TEST(ToStatus, HasOneLineAViolation) {
  EXPECT_THAT(ToStatus({}), weft::testing::IsOk());
  EXPECT_EQ(ToStatus({{"a", "is bad"}, {"", "is worse"}}).message(), "a: is bad\nis worse");
}

// A classifier of ten classes.
v1::JobSpec Classifier() {
  return Parsed(R"(
name: a
model: {kind: classifier, width: 8, layers: 1, mixers: [{softmax: {heads: 1}}]}
data: {listops: {}}
training: {steps: 1, batch_size: 1, sequence_length: 64}
)");
}

TEST(ResolveSpec, ClassifiersTakeTheirSizesFromTheData) {
  v1::JobSpec spec = Classifier();
  ASSERT_THAT(ResolveSpec(spec), IsEmpty());
  EXPECT_EQ(spec.model().classes(), 10);
  EXPECT_EQ(spec.model().vocab_size(), 16);
  EXPECT_EQ(spec.model().pooling(), v1::ModelSpec::POOLING_MEAN);
  EXPECT_EQ(spec.model().head_width(), 256);
  EXPECT_FALSE(spec.model().has_pair_products());
  v1::JobSpec sketched = Classifier();
  sketched.mutable_model()->mutable_mixers(0)->mutable_polysketch()->set_heads(1);
  ASSERT_THAT(ResolveSpec(sketched), IsEmpty());
  EXPECT_EQ(sketched.model().mixers(0).polysketch().mode(),
            v1::PolysketchSpec::MODE_LEARNED_SKETCH);
}

TEST(ResolveSpec, FieldsOfOtherKindsAreRefused) {
  v1::JobSpec language = Demo();
  language.mutable_model()->set_classes(3);
  language.mutable_model()->set_pooling(v1::ModelSpec::POOLING_MEAN);
  language.mutable_model()->set_head_width(8);
  language.mutable_model()->set_pair_products(false);
  EXPECT_THAT(ResolveSpec(language),
              UnorderedElementsAre(Says("model.classes", "is for classifiers"),
                                   Says("model.pooling", "is for classifiers"),
                                   Says("model.head_width", "is for classifiers"),
                                   Says("model.pair_products", "is for two_tower")));

  v1::JobSpec classifier = Classifier();
  v1::ModelSpec& model = *classifier.mutable_model();
  model.set_classes(9);
  model.set_tied_embeddings(true);
  model.mutable_biases()->set_logits(true);
  model.mutable_mixers(0)->mutable_polysketch()->set_heads(1);
  model.mutable_mixers(0)->mutable_polysketch()->set_mode(
      v1::PolysketchSpec::MODE_RANDOM_SKETCH_MIXED);
  model.set_layers(2);
  model.add_mixers()->mutable_delta()->set_heads(1);
  classifier.mutable_memory()->set_slice_length(8);
  EXPECT_THAT(ResolveSpec(classifier),
              UnorderedElementsAre(Says("model.classes", "must be 10 to 65536, is 9"),
                                   Says("model.tied_embeddings", "is for language models"),
                                   Says("model.biases.logits", "this head has biases"),
                                   Says("model.mixers[0].polysketch.mode", "must not be mixed"),
                                   Says("model.mixers[1].delta", "is for language models"),
                                   Says("memory.slice_length", "is for language models")));
}

// 2^20 heads of a batch or an evaluation can draw; an evaluation's last pass ends behind it.
TEST(ResolveSpec, HeadsThatDrawAreCounted) {
  v1::JobSpec sampled = Demo();
  sampled.mutable_model()->clear_overrides();
  sampled.mutable_model()->mutable_mixers(0)->mutable_sbm()->set_heads(2);
  sampled.mutable_evaluation()->set_sequences((1 << 19) - 1);  // in passes of 2
  EXPECT_THAT(ResolveSpec(sampled), IsEmpty());
  sampled.mutable_evaluation()->set_sequences(1 << 19);
  EXPECT_THAT(ResolveSpec(sampled),
              ElementsAre(Says("evaluation.sequences",
                               "must be at most 524287 with 2 heads a sequence that draw "
                               "(1048576 / 2, training.micro_batch_size - 1 less), is 524288")));
  sampled.mutable_training()->set_batch_size((1 << 19) + 16);
  EXPECT_THAT(ResolveSpec(sampled),
              ElementsAre(Says("training.batch_size",
                               "must be at most 524288 with 2 heads a sequence that draw "
                               "(1048576 / 2), is 524304")));
  sampled.mutable_model()->mutable_mixers(0)->mutable_sbm()->set_heads(3);
  EXPECT_THAT(ResolveSpec(sampled), ElementsAre(Says("model.mixers[0].sbm.heads", "must divide")));

  v1::JobSpec dropped = Demo();
  dropped.mutable_model()->mutable_mixers()->DeleteSubrange(0, 1);  // softmax with 4 heads
  dropped.mutable_training()->set_batch_size(1 << 19);
  dropped.mutable_evaluation()->set_sequences(1 << 20);  // where nothing is dropped
  EXPECT_THAT(ResolveSpec(dropped), IsEmpty());
  dropped.mutable_model()->mutable_dropout()->set_attention(0.1);
  EXPECT_THAT(ResolveSpec(dropped), ElementsAre(Says("training.batch_size", "at most 262144")));

  v1::JobSpec pairs = Parsed(R"(
name: a
model: {kind: two_tower, width: 8, layers: 1, mixers: [{sbm: {heads: 2}}]}
data: {aan: {folder: a}}
training: {steps: 1, batch_size: 1, sequence_length: 64}
evaluation: {sequences: 262144}
)");
  EXPECT_THAT(ResolveSpec(pairs), IsEmpty());
  pairs.mutable_evaluation()->set_sequences(262145);
  EXPECT_THAT(ResolveSpec(pairs), ElementsAre(Says("evaluation.sequences", "4 heads a pair")));
}

TEST(ResolveSpec, TheLeadingTokenHasAPosition) {
  v1::JobSpec spec = Classifier();
  spec.mutable_model()->set_positions(v1::ModelSpec::POSITIONS_LEARNED);
  spec.mutable_model()->set_max_positions(64);
  EXPECT_THAT(ResolveSpec(spec), IsEmpty());
  spec.mutable_model()->set_pooling(v1::ModelSpec::POOLING_LEADING_TOKEN);
  EXPECT_THAT(ResolveSpec(spec), ElementsAre(Says("model.max_positions", "must be 65")));
}

}  // namespace
}  // namespace weft::spec
