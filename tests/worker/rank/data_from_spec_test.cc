#include "worker/rank/data_from_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "proto/spec/parse.h"
#include "proto/spec/resolve.h"
#include "tests/testing/status_matchers.h"

namespace weft::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// With defaults filled in; whether the model can use the data does not matter here.
DataConfig ConfigOf(const std::string& data) {
  v1::JobSpec spec;
  EXPECT_THAT(spec::ParseSpec(absl::StrCat("model: {vocab_size: 300}\ntraining: {sequence_length: "
                                           "9}\ndata: ",
                                           data),
                              spec),
              IsEmpty());
  spec::ResolveSpec(spec);
  return DataFromSpec(spec.data(), "/root", 300);
}

template <typename Source>
Source SourceOf(const std::string& data) {
  const DataConfig config = ConfigOf(data);
  EXPECT_TRUE(std::holds_alternative<Source>(config.source)) << data;
  return std::get<Source>(config.source);
}

TEST(DataFromSpecTest, CarriesFilesOver) {
  const auto text = SourceOf<TextFiles>("{text: {paths: [a, /b], validation_paths: [c]}}");
  EXPECT_THAT(text.paths, ElementsAre("/root/a", "/b"));
  EXPECT_THAT(text.validation_paths, ElementsAre("/root/c"));
  const auto tokens = SourceOf<TokenFiles>("{tokens: {paths: [a], validation_paths: [/c]}}");
  EXPECT_THAT(tokens.paths, ElementsAre("/root/a"));
  EXPECT_THAT(tokens.validation_paths, ElementsAre("/c"));
  EXPECT_EQ(SourceOf<PennTreebankFiles>("{penn_treebank: {folder: a}}").folder, "/root/a");
  EXPECT_EQ(SourceOf<WikiText103Files>("{wikitext103: {folder: a}}").folder, "/root/a");
  EXPECT_EQ(SourceOf<Pg19Files>("{pg19: {folder: /a}}").folder, "/a");
  const auto enwik8 =
      SourceOf<Enwik8File>("{enwik8: {path: a, train_bytes: 7, held_out_bytes: 5}}");
  EXPECT_EQ(enwik8.path, "/root/a");
  EXPECT_EQ(enwik8.train_bytes, 7);
  EXPECT_EQ(enwik8.held_out_bytes, 5);
}

TEST(DataFromSpecTest, CarriesTasksOver) {
  const auto copying = SourceOf<CopyingOptions>("{copying: {symbols: 7, predict_separator: true}}");
  EXPECT_EQ(copying.symbols, 7);
  EXPECT_TRUE(copying.predict_separator);
  const auto selective =
      SourceOf<SelectiveCopyingOptions>("{selective_copying: {symbols: 7, data_tokens: 3}}");
  EXPECT_EQ(selective.symbols, 7);
  EXPECT_EQ(selective.data_tokens, 3);
  EXPECT_EQ(SourceOf<InductionHeadsOptions>("{induction_heads: {}}").symbols, 299);
  const auto recall =
      SourceOf<RecallOptions>("{recall: {pairs: 2, gap_exponent: 0.5, random_filler: true}}");
  EXPECT_EQ(recall.vocabulary, 300);
  EXPECT_EQ(recall.pairs, 2);
  EXPECT_EQ(recall.gap_exponent, 0.5);
  EXPECT_TRUE(recall.random_filler);
  EXPECT_EQ(SourceOf<RepeatedTokensOptions>("{repeated_tokens: {symbols: 8}}").symbols, 8);
  EXPECT_EQ(SourceOf<ListOpsOptions>("{listops: {max_tokens: 8}}").max_tokens, 8);
}

TEST(DataFromSpecTest, CarriesLabelledDataOver) {
  const auto listops = SourceOf<ListOpsFiles>("{listops: {folder: a, max_tokens: 8}}");
  EXPECT_EQ(listops.folder, "/root/a");
  EXPECT_EQ(listops.max_tokens, 8);
  EXPECT_EQ(SourceOf<ImdbFiles>("{imdb: {folder: a}}").folder, "/root/a");
  EXPECT_EQ(SourceOf<ImdbFiles>("{imdb: {folder: a, max_tokens: 4}}").max_tokens, 4);
  EXPECT_EQ(SourceOf<AanFiles>("{aan: {folder: a}}").folder, "/root/a");
  EXPECT_EQ(SourceOf<AanFiles>("{aan: {folder: a, max_tokens: 4}}").max_tokens, 4);
  const auto cifar =
      SourceOf<Cifar10Files>("{cifar10: {folder: a, grey: pillow, mask_zero_pixels: true}}");
  EXPECT_EQ(cifar.folder, "/root/a");
  EXPECT_EQ(cifar.grey, GreyConversion::kPillow);
  EXPECT_TRUE(cifar.mask_zero_pixels);
  EXPECT_EQ(SourceOf<Cifar10Files>("{cifar10: {folder: a}}").grey, GreyConversion::kTensorFlow);
  const auto pathfinder =
      SourceOf<PathfinderFiles>("{pathfinder: {folder: a, mask_zero_pixels: true}}");
  EXPECT_EQ(pathfinder.folder, "/root/a");
  EXPECT_TRUE(pathfinder.mask_zero_pixels);
}

TEST(DataFromSpecTest, CarriesWhatAllShareOver) {
  const DataConfig text = ConfigOf(
      "{text: {paths: [a]}, validation_fraction: 0.25, window_stride: 10, order: sequential}");
  EXPECT_EQ(text.validation_fraction, 0.25);
  EXPECT_EQ(text.window_stride, 10);
  EXPECT_EQ(text.order, OrderKind::kSequential);
  EXPECT_EQ(text.held_out, HeldOut::kValidation);
  const DataConfig copying =
      ConfigOf("{copying: {}, seed: 4, train_samples: 77, order: streams, held_out: test}");
  EXPECT_EQ(copying.seed, 4U);
  EXPECT_EQ(copying.train_samples, 77);
  EXPECT_EQ(copying.order, OrderKind::kStreams);
  EXPECT_EQ(copying.held_out, HeldOut::kTest);
  EXPECT_EQ(ConfigOf("{copying: {}}").order, OrderKind::kShuffled);
  EXPECT_EQ(ConfigOf("{copying: {}}").train_samples, GeneratedOptions::kEndless);
}

}  // namespace
}  // namespace weft::worker
