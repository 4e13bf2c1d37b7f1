#include "worker/prepare/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/worker/prepare/train_tiny_model.h"

namespace weft::worker {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

TEST(ByteTokenizerTest, TokensAreBytes) {
  const auto tokenizer = NewByteTokenizer();
  std::vector<int32_t> tokens = {7};
  ASSERT_OK(tokenizer->Encode("a\xFF", tokens));
  EXPECT_THAT(tokens, ElementsAre(7, 97, 255));
  EXPECT_EQ(tokenizer->vocabulary(), 256);
  EXPECT_EQ(tokenizer->end_token(), 0);
}

class SentencePieceTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) { return (folder_.path() / name).string(); }
  testing::TempDir folder_;
};

TEST_F(SentencePieceTest, UsesTheModel) {
  const std::string path =
      TrainTinyModel(Path("tiny"), {"the theme of the thesis", "the other thing"}, 300);
  ASSERT_NE(path, "");
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, OpenSentencePiece(path));
  EXPECT_LE(tokenizer->vocabulary(), 300);
  EXPECT_EQ(tokenizer->end_token(), 2);  // SentencePiece's </s>
  std::vector<int32_t> words, word;
  ASSERT_OK(tokenizer->Encode("the the the", words));
  EXPECT_LT(words.size(), 9U);  // pieces are longer than letters
  EXPECT_THAT(words, Each(::testing::Lt(tokenizer->vocabulary())));
  ASSERT_OK(tokenizer->Encode("the", word));
  EXPECT_EQ(words.front(), word.front());
  // Bytes 0 to 255 are tokens 3 to 258: what the model does not know falls back to them.
  std::vector<int32_t> fallback;
  ASSERT_OK(tokenizer->Encode("\xC3\x9F", fallback));
  EXPECT_THAT(fallback, ElementsAre(3 + 0xC3, 3 + 0x9F));
}

TEST_F(SentencePieceTest, WhatIsNoModelIsRefused) {
  EXPECT_THAT(OpenSentencePiece(Path("none")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  std::ofstream(Path("text")) << "no model";
  EXPECT_THAT(OpenSentencePiece(Path("text")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no SentencePiece model")));
}

}  // namespace
}  // namespace weft::worker
