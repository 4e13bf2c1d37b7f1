#include "worker/prepare/tokenize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/worker/data/data_files.h"

namespace weft::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

// A token is the number of letters of a piece; 9 ends a text.
class Lengths : public Tokenizer {
 public:
  [[nodiscard]] int32_t vocabulary() const override { return 1000; }
  [[nodiscard]] int32_t end_token() const override { return 9; }
  absl::Status Encode(absl::string_view text, std::vector<int32_t>& tokens) const override {
    if (text == "bad") return absl::InvalidArgumentError("bad text");
    tokens.push_back(static_cast<int32_t>(text.size()));
    return absl::OkStatus();
  }
};

class TokenizeTest : public DataFilesTest {
 protected:
  TokenizeOptions Options() {
    TokenizeOptions options;
    options.paths = {Path("texts")};
    options.prefix = Path("out");
    return options;
  }
  std::vector<int32_t> TokensOf(const TokenizeResult& result) {
    auto stream = OpenTokenFiles(result.paths, 1000);
    EXPECT_OK(stream);
    return ReadAll(**stream);
  }
};

TEST_F(TokenizeTest, TextsFollowEachOtherWithTheirEnds) {
  Put("texts/a", "abc\nde");
  Put("texts/b", "f");
  TokenizeOptions options = Options();
  options.documents.piece_bytes = 4;
  ASSERT_OK_AND_ASSIGN(const TokenizeResult result, Tokenize(Lengths(), options, RealFileSystem()));
  EXPECT_THAT(TokensOf(result), ElementsAre(4, 2, 9, 1, 9));
  EXPECT_EQ(result.documents, 2);
  EXPECT_EQ(result.bytes, 7);
  EXPECT_EQ(result.tokens, 5);
  options.mark_ends = false;
  options.prefix = Path("plain");
  ASSERT_OK_AND_ASSIGN(const TokenizeResult plain, Tokenize(Lengths(), options, RealFileSystem()));
  EXPECT_THAT(TokensOf(plain), ElementsAre(4, 2, 1));
}

// The bytes of a text, tokenised, are the text read as bytes.
TEST_F(TokenizeTest, BytesAreWhatAReaderOfTextsSees) {
  Put("texts/a", "some text");
  Put("texts/b", "more");
  ASSERT_OK_AND_ASSIGN(const TokenizeResult result,
                       Tokenize(*NewByteTokenizer(), Options(), RealFileSystem()));
  ASSERT_OK_AND_ASSIGN(const auto text, OpenByteText({Path("texts")}));
  std::vector<int32_t> expected = ReadAll(*text);
  expected.push_back(0);  // the end of the last text
  EXPECT_EQ(TokensOf(result), expected);
}

TEST_F(TokenizeTest, AMissingFolderIsMade) {
  Put("texts/a", "abc");
  TokenizeOptions options = Options();
  options.prefix = Path("new/tokens/corpus");
  ASSERT_OK_AND_ASSIGN(const TokenizeResult result, Tokenize(Lengths(), options, RealFileSystem()));
  EXPECT_THAT(result.paths, ElementsAre(Path("new/tokens/corpus_000000.bin")));
  EXPECT_THAT(TokensOf(result), ElementsAre(3, 9));
  options.prefix = Path("texts/a/corpus");  // a file is no folder
  EXPECT_FALSE(Tokenize(Lengths(), options, RealFileSystem()).ok());
}

// They would be read as text where they lie among it, and stay beside fewer new ones.
TEST_F(TokenizeTest, FilesOfAnEarlierRunAreRefused) {
  Put("texts/a", "abc");
  TokenizeOptions options = Options();
  options.prefix = Path("texts/out");
  ASSERT_OK(Tokenize(Lengths(), options, RealFileSystem()).status());
  EXPECT_THAT(Tokenize(Lengths(), options, RealFileSystem()),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(Path("texts/out_000000.bin"))));
  std::filesystem::rename(Path("texts/out_000000.bin"), Path("texts/out_000007.bin"));
  EXPECT_THAT(Tokenize(Lengths(), options, RealFileSystem()),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(Path("texts/out_000007.bin"))));
  std::filesystem::remove(Path("texts/out_000007.bin"));
  for (const char* other : {"out_1.bin", "out_000000.txt", "out2_000000.bin", "out_00000x.bin"}) {
    Put(absl::StrCat("texts/", other), "de");
  }
  EXPECT_OK(Tokenize(Lengths(), options, RealFileSystem()).status());
}

TEST_F(TokenizeTest, TheFilesDoNotDependOnThreads) {
  std::string lines;
  for (int i = 0; i < 5000; ++i) absl::StrAppend(&lines, std::string(i % 97 + 1, 'x'), "\n");
  Put("texts/a", lines);
  TokenizeOptions options = Options();
  options.documents.kind = DocumentKind::kLine;
  ASSERT_OK_AND_ASSIGN(const TokenizeResult one, Tokenize(Lengths(), options, RealFileSystem()));
  const std::vector<int32_t> expected = TokensOf(one);
  EXPECT_EQ(expected.size(), 10'000U);
  for (const int threads : {2, 5}) {
    options.threads = threads;
    options.prefix = Path(absl::StrCat("out", threads));
    ASSERT_OK_AND_ASSIGN(const TokenizeResult more, Tokenize(Lengths(), options, RealFileSystem()));
    EXPECT_EQ(TokensOf(more), expected);
  }
}

TEST_F(TokenizeTest, ErrorsEndIt) {
  Put("texts/a", "bad");
  EXPECT_THAT(Tokenize(Lengths(), Options(), RealFileSystem()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bad text")));
  Put("texts/a", "\n\n");
  TokenizeOptions options = Options();
  options.documents.kind = DocumentKind::kLine;
  EXPECT_THAT(Tokenize(Lengths(), options, RealFileSystem()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no token")));
  EXPECT_FALSE(std::filesystem::exists(Path("out_000000.bin")));
}

}  // namespace
}  // namespace weft::worker
