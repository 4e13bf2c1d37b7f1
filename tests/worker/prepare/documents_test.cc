#include "worker/prepare/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/worker/data/data_files.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

class DocumentsTest : public DataFilesTest {
 protected:
  // Pieces; those that end a text have a bar at the end.
  std::vector<std::string> PiecesOf(const DocumentOptions& options) {
    std::vector<std::string> pieces;
    EXPECT_OK(ForEachPiece({folder_.path().string()}, options, [&](TextPiece piece) {
      pieces.push_back(piece.text + (piece.ends_document ? "|" : ""));
      return absl::OkStatus();
    }));
    return pieces;
  }
};

TEST_F(DocumentsTest, FilesAreTexts) {
  Put("a", "one\ntwo\n");
  Put("b/c", "three");
  EXPECT_THAT(PiecesOf({}), ElementsAre("one\ntwo\n|", "three|"));
}

TEST_F(DocumentsTest, LinesAreTexts) {
  Put("a", "one\r\n\ntwo");
  EXPECT_THAT(PiecesOf({.kind = DocumentKind::kLine}), ElementsAre("one|", "two|"));
}

TEST_F(DocumentsTest, FieldsOfJsonAreTexts) {
  Put("a", R"({"text": "a\nb\u00e4", "meta": {"text": "x"}})"
           "\n\n"
           R"({"id": 1, "text": ""})"
           "\n"
           R"({"text": "c"})"
           "\n");
  EXPECT_THAT(PiecesOf({.kind = DocumentKind::kJson}), ElementsAre("a\nb\u00e4|", "c|"));
}

TEST_F(DocumentsTest, WhatIsNoSuchJsonIsNamed) {
  for (const char* line :
       {"{\"text\": 3}", "{\"body\": \"x\"}", "[\"text\"]", "{\"text\": \"x\"", "plain"}) {
    const std::string path = Put("a", "{\"text\": \"x\"}\n" + std::string(line) + "\n");
    EXPECT_THAT(ForEachPiece({path}, {.kind = DocumentKind::kJson},
                             [](const TextPiece&) { return absl::OkStatus(); }),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("a:2"), HasSubstr("text field 'text'"))))
        << line;
  }
}

TEST_F(DocumentsTest, LongTextsAreCutAtLinesOrCharacters) {
  Put("a", "ab\ncd\nefghijklmn");
  EXPECT_THAT(PiecesOf({.piece_bytes = 7}), ElementsAre("ab\ncd\n", "efghijk", "lmn|"));
  Put("a", "ab\u20ac\u20ac");
  EXPECT_THAT(PiecesOf({.piece_bytes = 4}), ElementsAre("ab", "\u20ac", "\u20ac|"));
  Put("a", "\x80\x80\x80\x80\x80");
  EXPECT_THAT(PiecesOf({.piece_bytes = 4}), ElementsAre("\x80\x80\x80\x80", "\x80|"));
}

TEST_F(DocumentsTest, TheCallerMayStop) {
  Put("a", "1\n2\n3\n");
  int pieces = 0;
  EXPECT_THAT(ForEachPiece({folder_.path().string()}, {.kind = DocumentKind::kLine},
                           [&](const TextPiece&) {
                             return ++pieces == 2 ? absl::CancelledError("enough")
                                                  : absl::OkStatus();
                           }),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(pieces, 2);
  EXPECT_THAT(ForEachPiece({Path("none")}, {}, [](const TextPiece&) { return absl::OkStatus(); }),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
}

}  // namespace
}  // namespace weft::worker
