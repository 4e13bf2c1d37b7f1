#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"
#include "tests/worker/data/data_files.h"
#include "worker/data/token_stream.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

template <typename Token>
std::string TokenFile(int32_t magic, int32_t version, int32_t count,
                      const std::vector<Token>& tokens) {
  std::vector<int32_t> header(256);
  header[0] = magic;
  header[1] = version;
  header[2] = count;
  std::string bytes(reinterpret_cast<const char*>(header.data()), 1024);
  return bytes.append(reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(Token));
}

std::string Short(const std::vector<uint16_t>& tokens) {
  return TokenFile(20240520, 1, static_cast<int32_t>(tokens.size()), tokens);
}
std::string Wide(const std::vector<uint32_t>& tokens) {
  return TokenFile(20240801, 7, static_cast<int32_t>(tokens.size()), tokens);
}

class TokenFilesTest : public DataFilesTest {
 protected:
  void ExpectRefused(const std::string& bytes, const std::string& reason) {
    EXPECT_THAT(OpenTokenFiles({Put("bad.bin", bytes)}, 1000),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(Path("bad.bin")), HasSubstr(reason))));
  }
};

TEST_F(TokenFilesTest, ReadsTokensOfTwoAndOfFourBytes) {
  ASSERT_OK_AND_ASSIGN(const auto narrow, OpenTokenFiles({Put("a", Short({1, 50256, 0}))}, 50257));
  EXPECT_THAT(ReadAll(*narrow), ElementsAre(1, 50256, 0));
  EXPECT_EQ(narrow->vocabulary(), 50257);
  ASSERT_OK_AND_ASSIGN(const auto wide, OpenTokenFiles({Put("b", Wide({128000, 7}))}, 128256));
  EXPECT_THAT(ReadAll(*wide), ElementsAre(128000, 7));
}

TEST_F(TokenFilesTest, SeveralFilesAreOneStream) {
  ASSERT_OK_AND_ASSIGN(
      const auto stream,
      OpenTokenFiles({Put("1", Short({1, 2, 3})), Put("2", Wide({4})), Put("3", Short({5, 6}))},
                     10));
  for (int first = 0; first <= 6; ++first) {
    for (int last = first; last <= 6; ++last) {
      std::vector<int32_t> part(static_cast<size_t>(last - first));
      ASSERT_OK(stream->Read(first, absl::MakeSpan(part)));
      for (int i = first; i < last; ++i) EXPECT_EQ(part[static_cast<size_t>(i - first)], i + 1);
    }
  }
  EXPECT_THAT(stream->Describe(), HasSubstr("6 tokens"));
}

TEST_F(TokenFilesTest, RefusesWrongHeadersAndLengths) {
  ExpectRefused("", "its header alone needs 1024");
  ExpectRefused(std::string(1023, '\0'), "1023 bytes");
  ExpectRefused(std::string(2000, 'x'), "magic 2021161080");
  ExpectRefused(TokenFile<uint16_t>(20240520, 2, 1, {1}), "version 2");
  ExpectRefused(TokenFile<uint16_t>(20240801, 1, 1, {1}), "20240801 version 7");
  ExpectRefused(TokenFile<uint16_t>(20240520, 1, 3, {1, 2}), "promises 3 tokens");
  ExpectRefused(TokenFile<uint16_t>(20240520, 1, 1, {1, 2}), "promises 1 tokens");
  ExpectRefused(TokenFile<uint16_t>(20240520, 1, 0, {}), "promises 0 tokens");
  ExpectRefused(TokenFile<uint16_t>(20240520, 1, -1, {1}), "promises -1 tokens");
  ExpectRefused(Short({1, 2}) + "x", "the file has 1029");
  ExpectRefused(Short({1, 1000, 2}), "token 1 is 1000");
  ExpectRefused(Wide({1, 2, 0xFFFFFFFF}), "token 2 is 4294967295");
}

TEST_F(TokenFilesTest, RefusesMissingFilesAndEmptyVocabularies) {
  EXPECT_THAT(OpenTokenFiles({}, 10), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(OpenTokenFiles({Path("absent")}, 10),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(Path("absent"))));
  EXPECT_THAT(OpenTokenFiles({folder_.path().string()}, 10),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a regular file")));
  EXPECT_THAT(OpenTokenFiles({Put("a", Short({0}))}, 0),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("vocabulary is 0")));
}

TEST_F(TokenFilesTest, TheFingerprintFollowsContents) {
  const std::string a = Put("a", Short({1, 2}));
  const std::string b = Put("b", Short({1, 2}));
  const std::string c = Put("c", Short({1, 3}));
  std::vector<std::string> prints;
  for (const std::string& path : {a, b, c}) {
    ASSERT_OK_AND_ASSIGN(const auto stream, OpenTokenFiles({path}, 10));
    prints.push_back(stream->fingerprint());
  }
  EXPECT_EQ(prints[0], prints[1]);
  EXPECT_NE(prints[0], prints[2]);
}

TEST_F(TokenFilesTest, AFileThatChangesUnderUsIsNoticedWhenReadTokensAreOutOfRange) {
  ASSERT_OK_AND_ASSIGN(const auto stream, OpenTokenFiles({Put("a", Short({1, 2, 3}))}, 10));
  Put("a", Short({1, 2, 999}));
  std::vector<int32_t> tokens(3);
  EXPECT_THAT(stream->Read(0, absl::MakeSpan(tokens)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("token 2 is 999")));
}

}  // namespace
}  // namespace weft::worker
