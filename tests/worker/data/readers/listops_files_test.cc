#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/worker/data/data_files.h"
#include "tests/worker/data/read_sample.h"
#include "worker/data/generated/listops.h"
#include "worker/data/readers/readers.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

class ListOpsFilesTest : public DataFilesTest {
 protected:
  void PutParts(const std::string& train_lines) {
    Put("basic_train.tsv", "Source\tTarget\r\n" + train_lines);
    Put("basic_val.tsv", "Source\tTarget\r\n( ( ( [MIN 4 ) 7 ) ] )\t4\r\n");
    Put("basic_test.tsv", "Source\tTarget\n( ( ( [SM 4 ) 7 ) ] )\t1\n");
  }
  SampleSourceOr Open(HeldOut held_out = HeldOut::kValidation, int64_t max_tokens = 8) {
    return OpenListOpsFiles({.folder = folder_.path().string(), .max_tokens = max_tokens}, 8,
                            held_out);
  }
};

TEST_F(ListOpsFilesTest, ReadsExpressionsAndValues) {
  PutParts("( ( ( [MAX 2 ) 9 ) ] )\t9\r\n5\t5\r\n");
  ASSERT_OK_AND_ASSIGN(const auto source, Open());
  EXPECT_EQ(source->sample_count(Split::kTrain), 2);
  EXPECT_EQ(source->sample_count(Split::kValidation), 1);
  EXPECT_EQ(source->shape(), (SampleShape{.sequence = 8,
                                          .vocabulary = 16,
                                          .target_kind = TargetKind::kSample,
                                          .classes = 10,
                                          .padded = true}));
  const ReadSample first = Sample(*source, Split::kTrain, 0);
  EXPECT_THAT(first.tokens, ElementsAre(12, 3, 10, 15, 0, 0, 0, 0));
  EXPECT_THAT(first.valid, ElementsAre(1, 1, 1, 1, 0, 0, 0, 0));
  EXPECT_THAT(first.targets, ElementsAre(9));
  EXPECT_THAT(Sample(*source, Split::kTrain, 1).targets, ElementsAre(5));
  EXPECT_THAT(Sample(*source, Split::kValidation, 0).tokens, ElementsAre(11, 5, 8, 15, 0, 0, 0, 0));
}

TEST_F(ListOpsFilesTest, TheTestFileMayBeHeldOut) {
  PutParts("5\t5\n");
  ASSERT_OK_AND_ASSIGN(const auto validation, Open());
  ASSERT_OK_AND_ASSIGN(const auto test, Open(HeldOut::kTest));
  EXPECT_THAT(Sample(*test, Split::kValidation, 0).targets, ElementsAre(1));
  EXPECT_NE(test->fingerprint(), validation->fingerprint());
}

TEST_F(ListOpsFilesTest, CutsWhatIsTooLong) {
  PutParts("( ( ( [MAX 2 ) 9 ) ] )\t9\n");
  ASSERT_OK_AND_ASSIGN(const auto source, Open(HeldOut::kValidation, 3));
  EXPECT_THAT(Sample(*source, Split::kTrain, 0).tokens, ElementsAre(12, 3, 10, 0, 0, 0, 0, 0));
}

TEST_F(ListOpsFilesTest, ReadsWhatTheGeneratorWrites) {
  std::string lines;
  std::vector<ListOpsTree> trees;
  for (int64_t i = 0; i < 5; ++i) {
    SampleDraws draws(3, SampleSet::kTrain, i);
    trees.push_back(GenerateListOps(draws));
    lines += ListOpsToText(trees.back().tokens) + '\t' + std::to_string(trees.back().value) + '\n';
  }
  PutParts(lines);
  ASSERT_OK_AND_ASSIGN(const auto source, OpenListOpsFiles({.folder = folder_.path().string()},
                                                           2048, HeldOut::kValidation));
  for (size_t i = 0; i < 5; ++i) {
    ReadSample sample = Sample(*source, Split::kTrain, static_cast<int64_t>(i));
    sample.tokens.resize(trees[i].tokens.size());
    EXPECT_EQ(sample.tokens, trees[i].tokens);
    EXPECT_EQ(sample.targets[0], trees[i].value);
  }
}

TEST_F(ListOpsFilesTest, ErrorsNameFileAndLine) {
  PutParts("5\t5\n5\tfive\n");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("basic_train.tsv:3"), HasSubstr("a digit"))));
  PutParts("5 5\n");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("train.tsv:2")));
  PutParts("");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nothing follows")));
  Put("basic_train.tsv", "5\t5\n");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("train.tsv:1"), HasSubstr("Source<TAB>Target"))));
  PutParts("5\t5\n");
  std::filesystem::remove(Path("basic_val.tsv"));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("basic_val.tsv")));
}

TEST_F(ListOpsFilesTest, AnUnknownWordIsSeenWhenTheFilesAreOpened) {
  PutParts("5\t5\n( ( [AVG 4 ) ] )\t4\n");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("basic_train.tsv:3"), HasSubstr("'[AVG'"))));
  PutParts("5\t5\n");
  Put("basic_val.tsv", "Source\tTarget\n( ( [MAX 12 ) ] )\t4\n");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("basic_val.tsv:2"), HasSubstr("'12'"))));
  EXPECT_OK(Open(HeldOut::kTest)) << "a file that is not used";
}

TEST_F(ListOpsFilesTest, MaxTokensMustFit) {
  PutParts("5\t5\n");
  EXPECT_THAT(Open(HeldOut::kValidation, 9),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_tokens")));
}

}  // namespace
}  // namespace weft::worker
