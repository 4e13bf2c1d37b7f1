// The data section of a job spec: defaults, and one sentence for everything that does not fit.

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/spec/data_facts.h"
#include "proto/spec/data_paths.h"
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

struct Sizes {
  int32_t vocab_size = 512;
  int32_t sequence = 1024;
};

v1::JobSpec SpecWith(const std::string& data, const Sizes& sizes) {
  const std::string text = absl::StrCat(R"(
name: a
model: {width: 8, layers: 1, mixers: [{delta: {heads: 1}}], vocab_size: )",
                                        sizes.vocab_size, R"(}
training: {steps: 1, batch_size: 1, sequence_length: )",
                                        sizes.sequence, "}\ndata: ", data, "\n");
  v1::JobSpec spec;
  EXPECT_THAT(ParseSpec(text, spec), IsEmpty()) << text;
  return spec;
}

// All but that the model is of another kind than the data asks for.
std::vector<Violation> Resolve(v1::JobSpec& spec) {
  std::vector<Violation> violations;
  for (Violation& violation : ResolveSpec(spec)) {
    if (violation.field != "model.kind") violations.push_back(std::move(violation));
  }
  return violations;
}

v1::DataSpec Resolved(const std::string& data, const Sizes& sizes = {}) {
  v1::JobSpec spec = SpecWith(data, sizes);
  EXPECT_THAT(Resolve(spec), IsEmpty()) << data;
  v1::JobSpec twice = spec;
  EXPECT_THAT(Resolve(twice), IsEmpty());
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(spec, twice)) << data;
  v1::JobSpec read_back;
  EXPECT_THAT(ParseSpec(SpecToYaml(spec), read_back), IsEmpty());
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(spec, read_back)) << data;
  return spec.data();
}

TEST(DataSpec, FillsTheDocumentedDefaults) {
  const v1::DataSpec text = Resolved("{text: {paths: [a]}}");
  EXPECT_EQ(text.validation_fraction(), 0.05);
  EXPECT_EQ(text.order(), v1::DataSpec::ORDER_SHUFFLED);
  EXPECT_EQ(text.window_stride(), 1024);
  EXPECT_FALSE(text.has_held_out() || text.has_seed() || text.has_train_samples());

  const v1::DataSpec split = Resolved("{tokens: {paths: [a], validation_paths: [b]}}");
  EXPECT_FALSE(split.has_validation_fraction());
  EXPECT_EQ(split.held_out(), v1::DataSpec::HELD_OUT_VALIDATION);

  const v1::DataSpec copying = Resolved("{copying: {}}", {.sequence = 511});
  EXPECT_EQ(copying.copying().symbols(), 511);
  EXPECT_FALSE(copying.copying().predict_separator());
  EXPECT_EQ(copying.train_samples(), int64_t{1} << 40);
  EXPECT_EQ(copying.seed(), 0U);
  EXPECT_FALSE(copying.has_window_stride() || copying.has_validation_fraction());

  const v1::DataSpec selective = Resolved("{selective_copying: {}}");
  EXPECT_EQ(selective.selective_copying().symbols(), 510);
  EXPECT_EQ(selective.selective_copying().data_tokens(), 16);
  EXPECT_EQ(Resolved("{selective_copying: {}}", {.sequence = 9}).selective_copying().data_tokens(),
            4);
  EXPECT_EQ(Resolved("{induction_heads: {}}").induction_heads().symbols(), 511);
  EXPECT_EQ(Resolved("{recall: {pairs: 4}}").recall().gap_exponent(), 0.01);
  EXPECT_EQ(Resolved("{repeated_tokens: {symbols: 370}}").repeated_tokens().symbols(), 370);
  const v1::DataSpec listops = Resolved("{listops: {}}", {.sequence = 2048});
  EXPECT_EQ(listops.listops().max_tokens(), 2048);
  EXPECT_TRUE(listops.has_train_samples());
  EXPECT_FALSE(Resolved("{listops: {folder: a}}").has_train_samples());
  EXPECT_EQ(Resolved("{cifar10: {folder: a}}").cifar10().grey(), v1::Cifar10Data::GREY_TENSORFLOW);
  EXPECT_FALSE(Resolved("{pathfinder: {folder: a}}").pathfinder().mask_zero_pixels());
  EXPECT_EQ(Resolved("{enwik8: {path: a}}").enwik8().train_bytes(), 90'000'000);
  EXPECT_EQ(Resolved("{enwik8: {path: a}}").enwik8().held_out_bytes(), 5'000'000);
}

TEST(DataSpec, AcceptsEverySource) {
  for (const char* data :
       {"{imdb: {folder: a, max_tokens: 1000}, held_out: test}", "{aan: {folder: a}}",
        "{penn_treebank: {folder: a}, order: sequential, window_stride: 1025}",
        "{wikitext103: {folder: a}, order: streams}", "{pg19: {folder: a}, held_out: test}",
        "{repeated_tokens: {}, seed: 3, train_samples: 1000}"}) {
    Resolved(data);
  }
}

struct BadData {
  const char* name;
  const char* data;
  const char* field;
  const char* says;
  Sizes sizes = {};
};

class DataSpecRefuses : public ::testing::TestWithParam<BadData> {};

TEST_P(DataSpecRefuses, WithOneSentence) {
  v1::JobSpec spec = SpecWith(GetParam().data, GetParam().sizes);
  EXPECT_THAT(Resolve(spec),
              ElementsAre(AllOf(Field(&Violation::field, GetParam().field),
                                Field(&Violation::description, HasSubstr(GetParam().says)))));
}

INSTANTIATE_TEST_SUITE_P(
    Each, DataSpecRefuses,
    ::testing::Values(
        BadData{"NoSource", "{order: shuffled}", "data", "one of text, tokens, copying"},
        BadData{"NoPaths", "{text: {}}", "data.text.paths", "at least one"},
        BadData{"EmptyPath", "{text: {paths: [a, '']}}", "data.text.paths[1]", "is empty"},
        BadData{"EmptyValidationPath", "{tokens: {paths: [a], validation_paths: ['']}}",
                "data.tokens.validation_paths[0]", "is empty"},
        BadData{"Fraction", "{text: {paths: [a]}, validation_fraction: 0.6}",
                "data.validation_fraction", "0 to 0.5"},
        BadData{"FractionOfSplitData",
                "{text: {paths: [a], validation_paths: [b]}, validation_fraction: 0.1}",
                "data.validation_fraction", "part of its own"},
        BadData{"FractionOfGenerated",
                "{copying: {}, validation_fraction: 0.1}",
                "data.validation_fraction",
                "part of its own",
                {.sequence = 3}},
        BadData{"HeldOutOfOneText", "{text: {paths: [a]}, held_out: validation}", "data.held_out",
                "parts of its own"},
        BadData{"NoTestPart", "{text: {paths: [a], validation_paths: [b]}, held_out: test}",
                "data.held_out", "have no test part"},
        BadData{"SeedOfText", "{text: {paths: [a]}, seed: 1}", "data.seed", "generated"},
        BadData{"SamplesOfFiles", "{listops: {folder: a}, train_samples: 9}", "data.train_samples",
                "generated"},
        BadData{"TooManySamples",
                "{copying: {}, train_samples: 1099511627777}",
                "data.train_samples",
                "1 to 1099511627776",
                {.sequence = 3}},
        BadData{"StrideOfGenerated",
                "{copying: {}, window_stride: 2}",
                "data.window_stride",
                "for texts and tokens",
                {.sequence = 3}},
        BadData{"Stride", "{text: {paths: [a]}, window_stride: 0}", "data.window_stride",
                "at least 1"},
        BadData{"TextVocabulary",
                "{text: {paths: [a]}}",
                "model.vocab_size",
                "at least 256 for text, is 255",
                {.vocab_size = 255}},
        BadData{"ImdbVocabulary",
                "{imdb: {folder: a}}",
                "model.vocab_size",
                "at least 257 for imdb",
                {.vocab_size = 256}},
        BadData{"ListOpsVocabulary",
                "{listops: {}}",
                "model.vocab_size",
                "at least 16",
                {.vocab_size = 15}},
        BadData{"EvenCopying",
                "{copying: {}}",
                "training.sequence_length",
                "must be odd",
                {.sequence = 512}},
        BadData{"ShortCopying",
                "{copying: {}}",
                "training.sequence_length",
                "at least 3",
                {.sequence = 1}},
        BadData{"Symbols",
                "{copying: {symbols: 512}}",
                "data.copying.symbols",
                "1 to 511 (model.vocab_size - 1), is 512",
                {.sequence = 3}},
        BadData{"NoRoomForSymbols",
                "{selective_copying: {}}",
                "model.vocab_size",
                "at least 3 for selective_copying",
                {.vocab_size = 2}},
        BadData{"DataTokens",
                "{selective_copying: {data_tokens: 6}}",
                "data.selective_copying.data_tokens",
                "1 to 5",
                {.sequence = 10}},
        BadData{"ShortInduction",
                "{induction_heads: {}}",
                "training.sequence_length",
                "at least 3",
                {.sequence = 2}},
        BadData{"NoPairs", "{recall: {}}", "data.recall.pairs", "is 0 or missing"},
        BadData{"PairsInSequence",
                "{recall: {pairs: 5}}",
                "data.recall.pairs",
                "at most 4",
                {.sequence = 16}},
        BadData{"PairsInVocabulary",
                "{recall: {pairs: 5}}",
                "data.recall.pairs",
                "at most 4 (model.vocab_size / 2 - 1)",
                {.vocab_size = 10}},
        BadData{"GapExponent", "{recall: {pairs: 1, gap_exponent: 1.1}}",
                "data.recall.gap_exponent", "above 0 and at most 1"},
        BadData{"ShortRepeated",
                "{repeated_tokens: {}}",
                "training.sequence_length",
                "at least 2",
                {.sequence = 1}},
        BadData{"EmptyFolder", "{listops: {folder: ''}}", "data.listops.folder", "required"},
        BadData{"MaxTokens", "{listops: {max_tokens: 1025}}", "data.listops.max_tokens",
                "1 to training.sequence_length (1024)"},
        BadData{"NoFolder", "{imdb: {}}", "data.imdb.folder", "required"},
        BadData{"CifarLength",
                "{cifar10: {folder: a}}",
                "training.sequence_length",
                "must be 1024",
                {.sequence = 1000}},
        BadData{"PathfinderLength",
                "{pathfinder: {folder: a}}",
                "training.sequence_length",
                "square number",
                {.sequence = 1000}},
        BadData{"Enwik8Path", "{enwik8: {}}", "data.enwik8.path", "required"},
        BadData{"Enwik8Bytes", "{enwik8: {path: a, train_bytes: 0}}", "data.enwik8.train_bytes",
                "1 to 1099511627776"},
        BadData{"Enwik8TrainBytes", "{enwik8: {path: a, train_bytes: 9223372036854775807}}",
                "data.enwik8.train_bytes", "1 to 1099511627776"},
        BadData{"Enwik8HeldOutBytes", "{enwik8: {path: a, held_out_bytes: 9223372036854775807}}",
                "data.enwik8.held_out_bytes", "1 to 1099511627776"}),
    [](const auto& each) { return each.param.name; });

TEST(DataSpec, NamesTheKindOfModelThatItNeeds) {
  const auto complaint = [](const std::string& data, v1::ModelSpec::Kind kind) {
    v1::JobSpec spec = SpecWith(data, {});
    v1::ModelSpec& model = *spec.mutable_model();
    model.set_kind(kind);
    model.mutable_mixers(0)->mutable_softmax()->set_heads(1);
    return ResolveSpec(spec);
  };
  using Spec = v1::ModelSpec;
  const auto says = [](const std::string& what) {
    return ElementsAre(
        AllOf(Field(&Violation::field, "model.kind"), Field(&Violation::description, what)));
  };
  EXPECT_THAT(complaint("{imdb: {folder: a}}", Spec::KIND_LANGUAGE_MODEL),
              says("must be classifier for data.imdb, which has one label a sample; is "
                   "language_model"));
  EXPECT_THAT(complaint("{aan: {folder: a}}", Spec::KIND_CLASSIFIER),
              says("must be two_tower for data.aan, which has one label a pair of texts; is "
                   "classifier"));
  EXPECT_THAT(complaint("{repeated_tokens: {}}", Spec::KIND_LANGUAGE_MODEL),
              says("must be token_classifier for data.repeated_tokens, which has a class at each "
                   "position; is language_model"));
  EXPECT_THAT(complaint("{text: {paths: [a]}}", Spec::KIND_CLASSIFIER),
              says("must be language_model for data.text, which has tokens to predict; is "
                   "classifier"));
  EXPECT_THAT(complaint("{aan: {folder: a}}", Spec::KIND_TWO_TOWER), IsEmpty());
}

TEST(DataSpec, EveryPathCanBeChanged) {
  const auto changed = [](const std::string& data) {
    v1::JobSpec spec = SpecWith(data, {});
    ChangePaths(*spec.mutable_data(), [](const std::string& path) { return "/x/" + path; });
    return SpecToYaml(spec);
  };
  for (const char* source : {"listops", "imdb", "aan", "cifar10", "pathfinder", "penn_treebank",
                             "wikitext103", "pg19"}) {
    EXPECT_THAT(changed(absl::StrCat("{", source, ": {folder: a}}")), HasSubstr("folder: /x/a"));
  }
  EXPECT_THAT(changed("{enwik8: {path: a}}"), HasSubstr("path: /x/a"));
  for (const char* source : {"text", "tokens"}) {
    EXPECT_THAT(changed(absl::StrCat("{", source, ": {paths: [a, b], validation_paths: [c]}}")),
                AllOf(HasSubstr("/x/a"), HasSubstr("/x/b"), HasSubstr("/x/c")));
  }
  EXPECT_THAT(changed("{listops: {}}"), ::testing::Not(HasSubstr("/x/")));
  EXPECT_THAT(changed("{copying: {}}"), ::testing::Not(HasSubstr("/x/")));
}

TEST(DataSpec, FactsTellTheShape) {
  const DataFacts pairs = FactsOf(Resolved("{aan: {folder: a}}"));
  EXPECT_TRUE(pairs.is_pair && pairs.is_labelled && pairs.is_padded && !pairs.is_generated);
  EXPECT_EQ(pairs.classes, 2);
  EXPECT_EQ(pairs.vocabulary, 257);
  const DataFacts copying = FactsOf(Resolved("{copying: {}}", {.sequence = 3}));
  EXPECT_TRUE(copying.is_generated && !copying.is_labelled && !copying.is_padded);
  EXPECT_EQ(copying.vocabulary, 512);
  EXPECT_EQ(copying.classes, 0);
  EXPECT_TRUE(FactsOf(Resolved("{listops: {}}")).is_generated);
  EXPECT_FALSE(FactsOf(Resolved("{listops: {folder: a}}")).is_generated);
  EXPECT_FALSE(FactsOf(Resolved("{cifar10: {folder: a}}")).is_padded);
  EXPECT_TRUE(FactsOf(Resolved("{cifar10: {folder: a, mask_zero_pixels: true}}")).is_padded);
}

}  // namespace
}  // namespace weft::spec
