#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
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

class ByteTextTest : public DataFilesTest {};

TEST_F(ByteTextTest, EveryByteIsAToken) {
  ASSERT_OK_AND_ASSIGN(const auto stream,
                       OpenByteText({Put("f", std::string("a\xC3\xA9\0\xFF", 5))}));
  EXPECT_EQ(stream->vocabulary(), 256);
  EXPECT_THAT(ReadAll(*stream), ElementsAre('a', 0xC3, 0xA9, 0, 0xFF));
}

TEST_F(ByteTextTest, AZeroByteStandsBetweenFiles) {
  const std::string first = Put("z", "one");
  const std::string second = Put("a", "two");
  ASSERT_OK_AND_ASSIGN(const auto stream, OpenByteText({first, second}));
  EXPECT_EQ(TextOf(*stream), std::string("one\0two", 7));
}

TEST_F(ByteTextTest, APartMayBeginAndEndAnywhere) {
  Put("d/1", "abc");
  Put("d/2", "d");
  Put("d/3", "efg");
  ASSERT_OK_AND_ASSIGN(const auto stream, OpenByteText({Path("d")}));
  const std::string whole("abc\0d\0efg", 9);
  ASSERT_EQ(TextOf(*stream), whole);
  for (int64_t first = 0; first <= 9; ++first) {
    for (int64_t last = first; last <= 9; ++last) {
      std::vector<int32_t> part(static_cast<size_t>(last - first));
      ASSERT_OK(stream->Read(first, absl::MakeSpan(part)));
      EXPECT_EQ(std::string(part.begin(), part.end()), whole.substr(first, last - first));
    }
  }
}

TEST_F(ByteTextTest, LargeFilesAreMappedAndJoinLikeSmallOnes) {
  std::string large((size_t{1} << 20) + 3, 'x');
  large.back() = 'y';
  ASSERT_OK_AND_ASSIGN(const auto stream,
                       OpenByteText({Put("1", "a"), Put("2", large), Put("3", "b")}));
  EXPECT_TRUE(TextOf(*stream) == std::string("a\0", 2) + large + std::string("\0b", 2));
}

TEST_F(ByteTextTest, AFolderStandsForItsFilesInOrderOfPath) {
  Put("d/b/2", "B2");
  Put("d/a", "A");
  Put("d/b/1", "B1");
  Put("d/c", "C");
  ASSERT_OK_AND_ASSIGN(const auto stream, OpenByteText({Path("d")}));
  EXPECT_EQ(TextOf(*stream), std::string("A\0B1\0B2\0C", 9));
  EXPECT_THAT(stream->Describe(), AllOf(HasSubstr("4 files"), HasSubstr(Path("d"))));
}

TEST_F(ByteTextTest, HiddenEmptyRepeatedAndSpecialFilesOfAFolderAreLeftOut) {
  Put("d/GPL-3", "text");
  std::filesystem::create_symlink("GPL-3", Path("d/GPL"));
  std::filesystem::create_symlink("nowhere", Path("d/dangling"));
  std::filesystem::create_symlink("itself", Path("d/itself"));
  std::filesystem::create_directory_symlink(folder_.path(), Path("d/loop"));
  Put("d/.git/config", "hidden");
  Put("d/.swp", "hidden");
  Put("d/empty", "");
  ASSERT_EQ(mkfifo(Path("d/pipe").c_str(), 0600), 0);
  ASSERT_OK_AND_ASSIGN(const auto stream, OpenByteText({Path("d")}));
  EXPECT_EQ(TextOf(*stream), "text");
}

TEST_F(ByteTextTest, WhatCannotBeReadIsNamed) {
  EXPECT_THAT(OpenByteText({}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no text")));
  EXPECT_THAT(OpenByteText({Path("absent")}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(Path("absent"))));
  EXPECT_THAT(OpenByteText({Put("empty", "")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(Path("empty"))));
  std::filesystem::create_directory(Path("bare"));
  EXPECT_THAT(OpenByteText({Path("bare")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(Path("bare"))));
  Put("hollow/empty", "");
  EXPECT_THAT(OpenByteText({Path("hollow")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(Path("hollow"))));
  EXPECT_THAT(OpenByteText({"/dev/null"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("/dev/null")));
  EXPECT_THAT(OpenByteText({Put("f", "x"), Path("f/g")}).status().message(), HasSubstr("f/g"));
}

// No more than a name is wrong here, so that root fails as well.
TEST_F(ByteTextTest, AFileOfAFolderThatCannotBeReachedIsNamedNotSkipped) {
  Put("d/good", "text");
  std::filesystem::create_symlink("good/below", Path("d/odd"));
  EXPECT_THAT(OpenByteText({Path("d")}).status().message(),
              AllOf(HasSubstr("cannot read text from"), HasSubstr(Path("d/odd"))));
}

// Root may read everything, so the test looks with the eyes of another user.
class OtherUser {
 public:
  OtherUser() : before_(setfsuid(geteuid() == 0 ? 65534 : geteuid())) {}
  ~OtherUser() { setfsuid(static_cast<uid_t>(before_)); }
  OtherUser(const OtherUser&) = delete;
  OtherUser& operator=(const OtherUser&) = delete;

 private:
  int before_;
};

TEST_F(ByteTextTest, UnreadableFilesAndFoldersAreNamedNotSkipped) {
  std::filesystem::permissions(folder_.path(), std::filesystem::perms{0755});
  Put("d/good", "text");
  const std::string secret = Put("d/secret", "text");
  Put("closed/inner/f", "text");
  Put("listed/good", "text");
  const std::string beyond = Put("listed/inner/f", "text");
  ASSERT_EQ(chmod(secret.c_str(), 0), 0);
  ASSERT_EQ(chmod(Path("closed/inner").c_str(), 0), 0);
  ASSERT_EQ(chmod(Path("listed/inner").c_str(), 0744), 0);  // shows names, and nothing behind them
  {
    OtherUser other;
    EXPECT_THAT(OpenByteText({Path("d")}),
                StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr(secret)));
    EXPECT_THAT(OpenByteText({Path("closed")}),
                StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr(Path("closed/inner"))));
    EXPECT_THAT(OpenByteText({Path("listed")}),
                StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr(beyond)));
  }
  ASSERT_EQ(chmod(Path("closed/inner").c_str(), 0700), 0);  // or it could not be removed
}

TEST_F(ByteTextTest, TheFingerprintFollowsContentsNotNames) {
  Put("d/a", "one");
  Put("d/b", "two");
  Put("e/c", "one");
  Put("e/d", "two");
  const std::string base = Fingerprint({Path("d")});
  EXPECT_EQ(base.size(), 64U);
  EXPECT_EQ(Fingerprint({Path("e")}), base);
  EXPECT_NE(Fingerprint({Path("d/b"), Path("d/a")}), base);
  Put("e/d", "twO");
  EXPECT_NE(Fingerprint({Path("e")}), base);
  // The same bytes cut differently are other data.
  EXPECT_NE(Fingerprint({Put("j", std::string("one\0two", 7))}), base);
}

TEST_F(ByteTextTest, TheFingerprintOfAHugeFileSeesItsEnds) {
  std::string bytes((size_t{17} << 20) + 12345, 'x');
  const std::string base = Fingerprint({Put("f", bytes)});
  EXPECT_EQ(Fingerprint({Put("g", bytes)}), base);
  bytes.back() = 'y';
  EXPECT_NE(Fingerprint({Put("g", bytes)}), base);
  bytes.back() = 'x';
  bytes.front() = 'y';
  EXPECT_NE(Fingerprint({Put("g", bytes)}), base);
  bytes.front() = 'x';
  EXPECT_NE(Fingerprint({Put("g", bytes + "x")}), base);
}

}  // namespace
}  // namespace weft::worker
