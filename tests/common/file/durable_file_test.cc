#include "common/file/durable_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tests/testing/faulty_file_system.h"
#include "tests/testing/status_matchers.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using testing::FaultyFileSystem;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::IsOkAndHolds;
using testing::StatusIs;

constexpr absl::string_view kPath = "/dir/file";

void MakeOld(FaultyFileSystem& files) {
  ASSERT_OK(files.CreateDirectories("/dir"));
  ASSERT_OK(files.Sync("/"));
  ASSERT_OK(WriteFileDurably(files, kPath, "old contents"));
}

TEST(PathTest, JoinsAndSplits) {
  EXPECT_EQ(JoinPath("/a", "b"), "/a/b");
  EXPECT_EQ(JoinPath("/a/", "b"), "/a/b");
  EXPECT_EQ(JoinPath("", "b"), "b");
  EXPECT_EQ(DirectoryOf("/a/b"), "/a");
  EXPECT_EQ(DirectoryOf("/b"), "/");
  EXPECT_EQ(DirectoryOf("b"), ".");
}

TEST(WriteFileDurablyTest, SurvivesAPowerCutRightAfterIt) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    FaultyFileSystem files;
    MakeOld(files);
    ASSERT_OK(WriteFileDurably(files, kPath, "new"));
    files.RestorePower(seed);
    ASSERT_THAT(ReadFile(files, kPath), IsOkAndHolds("new"));
  }
}

TEST(WriteFileDurablyTest, APowerCutAnywhereLeavesTheOldOrTheNewContents) {
  std::set<std::string> seen;
  for (int64_t cut = 0; cut < 4; ++cut) {  // write, sync, rename, sync of the folder
    for (uint64_t seed = 0; seed < 50; ++seed) {
      FaultyFileSystem files;
      MakeOld(files);
      files.LosePowerAt(files.operations() + cut);
      ASSERT_FALSE(WriteFileDurably(files, kPath, "new").ok());
      files.RestorePower(seed);
      ASSERT_OK_AND_ASSIGN(const std::string contents, ReadFile(files, kPath));
      seen.insert(contents);
    }
  }
  EXPECT_THAT(seen, ElementsAre("new", "old contents"));
}

// The same check must fail a writer that takes a short cut, or it shows nothing.
TEST(WriteFileDurablyTest, TheCheckAboveCatchesAPlainWrite) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    FaultyFileSystem files;
    MakeOld(files);
    const absl::string_view bytes = "new";
    ASSERT_OK(files.Write(kPath, absl::MakeConstSpan(&bytes, 1)));
    files.RestorePower(seed);
    ASSERT_OK_AND_ASSIGN(const std::string contents, ReadFile(files, kPath));
    seen.insert(contents);
  }
  EXPECT_GT(seen.size(), 2U);
}

TEST(WriteFileDurablyTest, AFullDiskKeepsTheOldFileAndLeavesNoTemporaryOne) {
  FaultyFileSystem files;
  MakeOld(files);
  files.SetCapacity(20);
  EXPECT_THAT(WriteFileDurably(files, kPath, std::string(100, 'x')),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("/dir/file")));
  EXPECT_THAT(ReadFile(files, kPath), IsOkAndHolds("old contents"));
  ASSERT_OK_AND_ASSIGN(const auto entries, files.List("/dir"));
  EXPECT_EQ(entries.size(), 1U);
}

TEST(WriteFileDurablyTest, AFailedSyncKeepsTheOldFile) {
  FaultyFileSystem files;
  MakeOld(files);
  files.FailEverySync(absl::UnknownError("Input/output error"));
  EXPECT_THAT(WriteFileDurably(files, kPath, "new"),
              StatusIs(absl::StatusCode::kUnknown, HasSubstr("Input/output error")));
  files.FailEverySync(std::nullopt);
  EXPECT_THAT(ReadFile(files, kPath), IsOkAndHolds("old contents"));
  ASSERT_OK_AND_ASSIGN(const auto entries, files.List("/dir"));
  EXPECT_EQ(entries.size(), 1U);
}

TEST(WriteFileDurablyTest, WhatACrashLeavesIsKnownByItsName) {
  int left_over = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    FaultyFileSystem files;
    MakeOld(files);
    files.LosePowerAt(files.operations() + 1);
    ASSERT_FALSE(WriteFileDurably(files, kPath, "new").ok());
    files.RestorePower(seed);
    ASSERT_OK_AND_ASSIGN(const auto entries, files.List("/dir"));
    for (const DirectoryEntry& entry : entries) {
      EXPECT_EQ(IsTemporaryName(entry.name), entry.name != "file") << entry.name;
      left_over += IsTemporaryName(entry.name) ? 1 : 0;
    }
  }
  EXPECT_GT(left_over, 0);
}

TEST(ReadFileTest, RefusesAFileLargerThanAllowed) {
  FaultyFileSystem files;
  MakeOld(files);
  EXPECT_THAT(ReadFile(files, kPath, 12), IsOkAndHolds("old contents"));
  EXPECT_THAT(ReadFile(files, kPath, 11),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("11 bytes")));
}

}  // namespace
}  // namespace weft
