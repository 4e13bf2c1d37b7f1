// IMDb reviews and pairs of papers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/worker/data/data_files.h"
#include "tests/worker/data/read_sample.h"
#include "worker/data/readers/readers.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

class ImdbTest : public DataFilesTest {
 protected:
  ImdbTest() {
    Put("train/neg/0_1.txt", "no");
    Put("train/neg/1_2.txt", "bad");
    Put("train/pos/0_9.txt", "good<br />");
    Put("train/unsup/0_0.txt", "not read");
    Put("test/neg/0_3.txt", "hm");
    Put("test/pos/0_8.txt", "\xFFz");
  }
  SampleSourceOr Open(int64_t max_tokens = 6, int64_t sequence = 8) {
    return OpenImdb({.folder = folder_.path().string(), .max_tokens = max_tokens}, sequence);
  }
};

TEST_F(ImdbTest, ReadsBytesAndLabels) {
  ASSERT_OK_AND_ASSIGN(const auto source, Open());
  EXPECT_EQ(source->shape(), (SampleShape{.sequence = 8,
                                          .vocabulary = 257,
                                          .target_kind = TargetKind::kSample,
                                          .classes = 2,
                                          .padded = true}));
  EXPECT_EQ(source->sample_count(Split::kTrain), 3);
  EXPECT_EQ(source->sample_count(Split::kValidation), 2);
  const ReadSample negative = Sample(*source, Split::kTrain, 0);
  EXPECT_THAT(negative.tokens, ElementsAre('n' + 1, 'o' + 1, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(negative.valid, ElementsAre(1, 1, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(negative.targets, ElementsAre(0));
  const ReadSample cut = Sample(*source, Split::kTrain, 2);
  EXPECT_THAT(cut.tokens, ElementsAre('g' + 1, 'o' + 1, 'o' + 1, 'd' + 1, '<' + 1, 'b' + 1, 0, 0));
  EXPECT_THAT(cut.targets, ElementsAre(1));
  EXPECT_THAT(Sample(*source, Split::kValidation, 1).tokens[0], 256);
}

TEST_F(ImdbTest, TheFingerprintCoversTextsLabelsAndCuts) {
  ASSERT_OK_AND_ASSIGN(const auto base, Open());
  ASSERT_OK_AND_ASSIGN(const auto again, Open());
  ASSERT_OK_AND_ASSIGN(const auto shorter, Open(5));
  EXPECT_EQ(base->fingerprint(), again->fingerprint());
  EXPECT_NE(base->fingerprint(), shorter->fingerprint());
  std::filesystem::rename(Path("train/neg/1_2.txt"), Path("train/pos/1_2.txt"));
  ASSERT_OK_AND_ASSIGN(const auto relabelled, Open());
  EXPECT_NE(base->fingerprint(), relabelled->fingerprint());
}

TEST_F(ImdbTest, AMissingFolderIsNamed) {
  std::filesystem::remove_all(Path("test/pos"));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("test/pos")));
  std::filesystem::create_directories(Path("test/pos"));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("test/pos")));
  EXPECT_THAT(Open(9, 8), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_tokens")));
}

class AanTest : public DataFilesTest {
 protected:
  void PutParts(const std::string& train) {
    Put("new_aan_pairs.train.tsv", train);
    Put("new_aan_pairs.eval.tsv", "0\tA\tB\tx\ty\n");
    Put("new_aan_pairs.test.tsv", "1.0\tA\tB\tp\tq\n");
  }
  SampleSourceOr Open(HeldOut held_out = HeldOut::kValidation, int64_t max_tokens = 3) {
    return OpenAan({.folder = folder_.path().string(), .max_tokens = max_tokens}, 4, held_out);
  }
};

TEST_F(AanTest, ReadsPairs) {
  PutParts("1\tP1\tP2\tab\tcdef\r\n0.0\tP3\tP4\t\tg\n");
  ASSERT_OK_AND_ASSIGN(const auto source, Open());
  EXPECT_EQ(source->shape().rows, 2);
  EXPECT_EQ(source->shape().token_count(), 8);
  EXPECT_EQ(source->sample_count(Split::kTrain), 2);
  const ReadSample pair = Sample(*source, Split::kTrain, 0);
  EXPECT_THAT(pair.tokens, ElementsAre('a' + 1, 'b' + 1, 0, 0, 'c' + 1, 'd' + 1, 'e' + 1, 0));
  EXPECT_THAT(pair.valid, ElementsAre(1, 1, 0, 0, 1, 1, 1, 0));
  EXPECT_THAT(pair.targets, ElementsAre(1));
  const ReadSample second = Sample(*source, Split::kTrain, 1);
  EXPECT_THAT(second.valid, ElementsAre(0, 0, 0, 0, 1, 0, 0, 0));
  EXPECT_THAT(second.targets, ElementsAre(0));
  EXPECT_THAT(Sample(*source, Split::kValidation, 0).tokens[0], 'x' + 1);
  ASSERT_OK_AND_ASSIGN(const auto test, Open(HeldOut::kTest));
  EXPECT_THAT(Sample(*test, Split::kValidation, 0).tokens[0], 'p' + 1);
}

TEST_F(AanTest, AQuotationMarkIsACharacter) {
  PutParts("0\tP1\tP2\t\"a\tb\"\n1\tP1\tP2\tc\td\n");
  ASSERT_OK_AND_ASSIGN(const auto source, Open());
  EXPECT_EQ(source->sample_count(Split::kTrain), 2);
  EXPECT_THAT(Sample(*source, Split::kTrain, 0).tokens,
              ElementsAre('"' + 1, 'a' + 1, 0, 0, 'b' + 1, '"' + 1, 0, 0));
}

TEST_F(AanTest, ErrorsNameFileAndLine) {
  PutParts("0\tP1\tP2\ta\tb\n0\tP1\tP2\ta\n");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("new_aan_pairs.train.tsv:2"),
                                     HasSubstr("only 4 fields"), HasSubstr("between tabs"))));
  PutParts("0\tP1\tP2\ta\tb\tc\n");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("train.tsv:1"), HasSubstr("more than five"))));
  PutParts("yes\tP1\tP2\ta\tb\n");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("'yes'"), HasSubstr("expected 0 or 1"))));
  PutParts("2\tP1\tP2\ta\tb\n");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'2'")));
  std::filesystem::remove(Path("new_aan_pairs.eval.tsv"));
  PutParts("0\tP1\tP2\ta\tb\n");
  std::filesystem::remove(Path("new_aan_pairs.eval.tsv"));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("eval.tsv")));
  EXPECT_OK(Open(HeldOut::kTest));
}

}  // namespace
}  // namespace weft::worker
