// Penn Treebank, enwik8, PG-19, WikiText-103.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "tests/worker/data/data_files.h"
#include "worker/data/readers/readers.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

class TextSplitsTest : public DataFilesTest {
 protected:
  std::string Folder() { return folder_.path().string(); }
};

TEST_F(TextSplitsTest, PennTreebankIsThreeFiles) {
  Put("ptb.train.txt", " aer banknote \n");
  Put("ptb.valid.txt", " consumers \n");
  Put("ptb.test.txt", " no it was \n");
  ASSERT_OK_AND_ASSIGN(const TokenSplits splits, OpenPennTreebank(Folder(), HeldOut::kValidation));
  EXPECT_EQ(TextOf(*splits.train), " aer banknote \n");
  EXPECT_EQ(TextOf(*splits.validation), " consumers \n");
  ASSERT_OK_AND_ASSIGN(const TokenSplits test, OpenPennTreebank(Folder(), HeldOut::kTest));
  EXPECT_EQ(TextOf(*test.validation), " no it was \n");
  std::filesystem::remove(Path("ptb.valid.txt"));
  EXPECT_THAT(OpenPennTreebank(Folder(), HeldOut::kValidation),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("ptb.valid.txt")));
}

TEST_F(TextSplitsTest, Pg19IsThreeFolders) {
  Put("train/1.txt", "one");
  Put("train/2.txt", "two");
  Put("validation/3.txt", "three");
  Put("test/4.txt", "four");
  ASSERT_OK_AND_ASSIGN(const TokenSplits splits, OpenPg19(Folder(), HeldOut::kValidation));
  EXPECT_EQ(TextOf(*splits.train), std::string("one\0two", 7));
  EXPECT_EQ(TextOf(*splits.validation), "three");
  ASSERT_OK_AND_ASSIGN(const TokenSplits test, OpenPg19(Folder(), HeldOut::kTest));
  EXPECT_EQ(TextOf(*test.validation), "four");
}

TEST_F(TextSplitsTest, Enwik8IsCutByBytes) {
  const std::string path = Put("enwik8", "0123456789abcdef");
  const Enwik8File file = {.path = path, .train_bytes = 9, .held_out_bytes = 3};
  ASSERT_OK_AND_ASSIGN(const TokenSplits splits, OpenEnwik8(file, HeldOut::kValidation));
  EXPECT_EQ(TextOf(*splits.train), "012345678");
  EXPECT_EQ(TextOf(*splits.validation), "9ab");
  ASSERT_OK_AND_ASSIGN(const TokenSplits test, OpenEnwik8(file, HeldOut::kTest));
  EXPECT_EQ(TextOf(*test.train), "012345678");
  EXPECT_EQ(TextOf(*test.validation), "cde");
  EXPECT_THAT(OpenEnwik8({.path = path}, HeldOut::kValidation),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("has 16 bytes"), HasSubstr("90000000 to train on"),
                             HasSubstr("5000000 for each of 1"))));
  EXPECT_THAT(OpenEnwik8({.path = path, .train_bytes = 0}, HeldOut::kValidation),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least 1")));
}

TEST_F(TextSplitsTest, Enwik8FitsUpToItsLastByte) {
  const std::string path = Put("enwik8", "0123456789abcdef");
  const auto opened = [&](int64_t train, int64_t held_out, HeldOut part) {
    return OpenEnwik8({.path = path, .train_bytes = train, .held_out_bytes = held_out}, part)
        .status();
  };
  const auto too_long = StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("has 16 bytes"));
  EXPECT_THAT(opened(10, 6, HeldOut::kValidation), IsOk());
  EXPECT_THAT(opened(10, 7, HeldOut::kValidation), too_long);
  EXPECT_THAT(opened(10, 3, HeldOut::kTest), IsOk());
  EXPECT_THAT(opened(11, 3, HeldOut::kTest), too_long);
  EXPECT_THAT(opened(16, 1, HeldOut::kTest), too_long);
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  for (const HeldOut part : {HeldOut::kValidation, HeldOut::kTest}) {
    EXPECT_THAT(opened(kMost, 1, part), too_long);
    EXPECT_THAT(opened(1, kMost, part), too_long);
    EXPECT_THAT(opened(kMost, kMost, part), too_long);
  }
}

class WikiText103Test : public TextSplitsTest {};

TEST_F(WikiText103Test, WordsAreNumberedByFrequency) {
  Put("wiki.train.tokens", " \n = the cat = \n the <unk> the Cat \n");
  Put("wiki.valid.tokens", "Cat dog the\n");
  Put("wiki.test.tokens", "cat");
  ASSERT_OK_AND_ASSIGN(const TokenSplits splits, OpenWikiText103(Folder(), HeldOut::kValidation));
  // <eos> 0; the 1 (3 times), = 2 (2 times), then by place: cat 3, <unk> 4, Cat 5.
  EXPECT_THAT(ReadAll(*splits.train), ElementsAre(0, 2, 1, 3, 2, 0, 1, 4, 1, 5, 0));
  EXPECT_THAT(ReadAll(*splits.validation), ElementsAre(5, 4, 1, 0));
  EXPECT_EQ(splits.train->vocabulary(), 6);
  EXPECT_EQ(splits.validation->vocabulary(), 6);
  ASSERT_OK_AND_ASSIGN(const TokenSplits test, OpenWikiText103(Folder(), HeldOut::kTest));
  EXPECT_THAT(ReadAll(*test.validation), ElementsAre(3, 0));
  EXPECT_EQ(test.train->fingerprint(), splits.train->fingerprint());
  EXPECT_NE(test.validation->fingerprint(), splits.validation->fingerprint());
}

TEST_F(WikiText103Test, TheOtherNamesWillDo) {
  Put("train.txt", "a b\n");
  Put("valid.txt", "b a\n");
  ASSERT_OK_AND_ASSIGN(const TokenSplits splits, OpenWikiText103(Folder(), HeldOut::kValidation));
  EXPECT_THAT(ReadAll(*splits.validation), ElementsAre(2, 1, 0));
  EXPECT_THAT(OpenWikiText103(Folder(), HeldOut::kTest),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("wiki.test.tokens")));
}

TEST_F(WikiText103Test, TheTrainingFileDecidesTheNumbers) {
  Put("wiki.train.tokens", "a b b\n");
  Put("wiki.valid.tokens", "b a\n");
  ASSERT_OK_AND_ASSIGN(const TokenSplits before, OpenWikiText103(Folder(), HeldOut::kValidation));
  Put("wiki.train.tokens", "a a b\n");
  ASSERT_OK_AND_ASSIGN(const TokenSplits after, OpenWikiText103(Folder(), HeldOut::kValidation));
  EXPECT_NE(before.validation->fingerprint(), after.validation->fingerprint());
}

TEST_F(WikiText103Test, AnUnknownWordNeedsUnk) {
  Put("wiki.train.tokens", "a b\n");
  Put("wiki.valid.tokens", "a\nb c\n");
  EXPECT_THAT(
      OpenWikiText103(Folder(), HeldOut::kValidation),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("wiki.valid.tokens:2"), HasSubstr("'c'"), HasSubstr("no <unk>"))));
}

}  // namespace
}  // namespace weft::worker
