#include "worker/data/open_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/worker/data/data_files.h"
#include "tests/worker/data/read_sample.h"

namespace weft::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

class OpenDataTest : public DataFilesTest {};

TEST_F(OpenDataTest, TextsAreCutAsAsked) {
  const std::string train = Put("train", "0123456789");
  const std::string held_out = Put("held_out", "abcdefg");
  DataConfig config = {.source = TextFiles{{train}, {held_out}}, .window_stride = 4};
  ASSERT_OK_AND_ASSIGN(const auto split, OpenData(config, 3, 256));
  EXPECT_EQ(split->sample_count(Split::kTrain), 2);
  EXPECT_THAT(Sample(*split, Split::kTrain, 1).tokens, ElementsAre('4', '5', '6'));
  EXPECT_EQ(split->sample_count(Split::kValidation), 1);
  EXPECT_THAT(Sample(*split, Split::kValidation, 0).targets, ElementsAre('b', 'c', 'd'));
  config.source = TextFiles{{train}, {}};
  config.validation_fraction = 0.5;
  ASSERT_OK_AND_ASSIGN(const auto fraction, OpenData(config, 3, 256));
  EXPECT_THAT(Sample(*fraction, Split::kValidation, 0).tokens, ElementsAre('5', '6', '7'));
}

TEST_F(OpenDataTest, TokensMustBeOfTheModelsVocabulary) {
  std::string file(1024, '\0');
  const int32_t header[3] = {20240520, 1, 4};
  file.replace(0, sizeof header, reinterpret_cast<const char*>(header), sizeof header);
  file += std::string("\x01\x00\x02\x00\x03\x00\x04\x00", 8);
  const DataConfig config = {.source = TokenFiles{{Put("t.bin", file)}, {}},
                             .validation_fraction = 0};
  ASSERT_OK_AND_ASSIGN(const auto source, OpenData(config, 3, 5));
  EXPECT_THAT(Sample(*source, Split::kTrain, 0).targets, ElementsAre(2, 3, 4));
  EXPECT_THAT(OpenData(config, 3, 4),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("vocabulary")));
}

TEST_F(OpenDataTest, GeneratedDataHasSeedSizeAndPart) {
  const DataConfig config = {
      .source = CopyingOptions{.symbols = 5}, .seed = 3, .train_samples = 12};
  ASSERT_OK_AND_ASSIGN(const auto source, OpenData(config, 7, 6));
  EXPECT_EQ(source->sample_count(Split::kTrain), 12);
  DataConfig other = config;
  other.seed = 4;
  ASSERT_OK_AND_ASSIGN(const auto seeded, OpenData(other, 7, 6));
  EXPECT_NE(Sample(*seeded, Split::kTrain, 0), Sample(*source, Split::kTrain, 0));
  other = config;
  other.held_out = HeldOut::kTest;
  ASSERT_OK_AND_ASSIGN(const auto test, OpenData(other, 7, 6));
  EXPECT_EQ(Sample(*test, Split::kTrain, 0), Sample(*source, Split::kTrain, 0));
  EXPECT_NE(Sample(*test, Split::kValidation, 0), Sample(*source, Split::kValidation, 0));
}

// Every kind of source reaches its reader: what is missing is named by it.
TEST_F(OpenDataTest, ReachesEveryReader) {
  const std::string none = Path("none");
  const std::pair<DataSource, const char*> cases[] = {
      {TextFiles{{none}, {}}, "none"},
      {TokenFiles{{none}, {}}, "none"},
      {ListOpsFiles{none, 4}, "basic_train.tsv"},
      {ImdbFiles{none, 4}, "none/train/neg"},
      {AanFiles{none, 4}, "new_aan_pairs.train.tsv"},
      {Cifar10Files{.folder = none}, "data_batch_1.bin"},
      {PathfinderFiles{.folder = none}, "none/metadata"},
      {PennTreebankFiles{none}, "ptb.train.txt"},
      {Enwik8File{.path = none}, "none"},
      {WikiText103Files{none}, "wiki.train.tokens"},
      {Pg19Files{none}, "none/train"},
  };
  for (const auto& [source, named] : cases) {
    EXPECT_THAT(OpenData({.source = source}, 1024, 256),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr(named)));
  }
  for (const DataSource& source :
       {DataSource(CopyingOptions{}), DataSource(SelectiveCopyingOptions{}),
        DataSource(InductionHeadsOptions{}), DataSource(RecallOptions{}),
        DataSource(RepeatedTokensOptions{}), DataSource(ListOpsOptions{.max_tokens = 99})}) {
    ASSERT_OK_AND_ASSIGN(const auto opened, OpenData({.source = source}, 99, 8192));
    ExpectFitsShape(Sample(*opened, Split::kTrain, 0), opened->shape());
    EXPECT_EQ(opened->shape().sequence, 99);
  }
}

}  // namespace
}  // namespace weft::worker
