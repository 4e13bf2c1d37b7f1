// The contract of FileSystem, held against the real one and the one that tests crash.
#include "common/file/file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <string>

#include "common/file/durable_file.h"
#include "tests/testing/faulty_file_system.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using testing::FaultyFileSystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::IsOkAndHolds;
using testing::StatusIs;

struct RealWorld {
  FileSystem& files() { return RealFileSystem(); }
  testing::TempDir folder;
};

struct FaultyWorld {
  FileSystem& files() { return faulty; }
  FaultyFileSystem faulty;
  struct {
    std::string path() const { return "/"; }
  } folder;
};

template <typename World>
class FileSystemTest : public ::testing::Test {
 protected:
  FileSystem& files() { return world_.files(); }
  std::string Path(absl::string_view name) {
    return JoinPath(std::string(world_.folder.path()), name);
  }
  absl::Status Put(absl::string_view name, absl::string_view bytes) {
    return files().Write(Path(name), absl::MakeConstSpan(&bytes, 1));
  }

 private:
  World world_;
};

using Worlds = ::testing::Types<RealWorld, FaultyWorld>;
TYPED_TEST_SUITE(FileSystemTest, Worlds);

TYPED_TEST(FileSystemTest, PiecesAreWrittenOneAfterTheOther) {
  const absl::string_view pieces[] = {"ab", "", "cd"};
  ASSERT_OK(this->files().Write(this->Path("f"), pieces));
  EXPECT_THAT(this->files().Read(this->Path("f"), 0, 100), IsOkAndHolds("abcd"));
}

TYPED_TEST(FileSystemTest, WritingAgainReplacesAllBytes) {
  ASSERT_OK(this->Put("f", "a long text"));
  ASSERT_OK(this->Put("f", "short"));
  EXPECT_THAT(this->files().Read(this->Path("f"), 0, 100), IsOkAndHolds("short"));
}

TYPED_TEST(FileSystemTest, ReadsPartsAndNothingBeyondTheEnd) {
  ASSERT_OK(this->Put("f", "0123456789"));
  EXPECT_THAT(this->files().Read(this->Path("f"), 3, 4), IsOkAndHolds("3456"));
  EXPECT_THAT(this->files().Read(this->Path("f"), 8, 4), IsOkAndHolds("89"));
  EXPECT_THAT(this->files().Read(this->Path("f"), 10, 4), IsOkAndHolds(""));
  EXPECT_THAT(this->files().Read(this->Path("f"), 99, 4), IsOkAndHolds(""));
}

TYPED_TEST(FileSystemTest, MissingFilesAreNotFoundByName) {
  EXPECT_THAT(this->files().Read(this->Path("absent"), 0, 1),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  EXPECT_THAT(this->files().List(this->Path("absent")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  EXPECT_THAT(this->files().Sync(this->Path("absent")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  EXPECT_THAT(this->files().Rename(this->Path("absent"), this->Path("x")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  EXPECT_THAT(this->Put("no/such/folder", ""),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no/such/folder")));
}

TYPED_TEST(FileSystemTest, ListsEntriesInOrderOfName) {
  ASSERT_OK(this->Put("b", "22"));
  ASSERT_OK(this->Put("a", "1"));
  ASSERT_OK(this->files().CreateDirectories(this->Path("c/d")));
  EXPECT_THAT(this->files().List(this->Path("")),
              IsOkAndHolds(ElementsAre(DirectoryEntry{"a", false, 1}, DirectoryEntry{"b", false, 2},
                                       DirectoryEntry{"c", true, 0})));
  EXPECT_THAT(this->files().List(this->Path("c/d")), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(this->files().CreateDirectories(this->Path("c/d")), IsOk());
}

TYPED_TEST(FileSystemTest, AFileReplacesAFile) {
  ASSERT_OK(this->Put("from", "new"));
  ASSERT_OK(this->Put("to", "old"));
  ASSERT_OK(this->files().Rename(this->Path("from"), this->Path("to")));
  EXPECT_THAT(this->files().Read(this->Path("to"), 0, 10), IsOkAndHolds("new"));
  EXPECT_THAT(this->files().Read(this->Path("from"), 0, 10), StatusIs(absl::StatusCode::kNotFound));
}

TYPED_TEST(FileSystemTest, AFolderDoesNotReplaceAFolderWithContents) {
  ASSERT_OK(this->files().CreateDirectories(this->Path("from")));
  ASSERT_OK(this->files().CreateDirectories(this->Path("to")));
  ASSERT_OK(this->Put("to/f", "kept"));
  EXPECT_THAT(this->files().Rename(this->Path("from"), this->Path("to")),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("to")));
  EXPECT_THAT(this->files().Read(this->Path("to/f"), 0, 10), IsOkAndHolds("kept"));
}

TYPED_TEST(FileSystemTest, RemovesFilesFoldersAndNothing) {
  ASSERT_OK(this->files().CreateDirectories(this->Path("d/e")));
  ASSERT_OK(this->Put("d/e/f", "x"));
  EXPECT_THAT(this->files().RemoveTree(this->Path("d")), IsOk());
  EXPECT_THAT(this->files().RemoveTree(this->Path("d")), IsOk());
  EXPECT_THAT(this->files().List(this->Path("")), IsOkAndHolds(IsEmpty()));
}

TYPED_TEST(FileSystemTest, FilesAndFoldersCanBeSynced) {
  ASSERT_OK(this->Put("f", "x"));
  EXPECT_THAT(this->files().Sync(this->Path("f")), IsOk());
  EXPECT_THAT(this->files().Sync(this->Path("")), IsOk());
}

TEST(RealFileSystemTest, AFullDiskIsResourceExhausted) {
  // The kernel's own always-full device: the error path of a real write.
  const absl::string_view bytes = "x";
  EXPECT_THAT(RealFileSystem().Write("/dev/full", absl::MakeConstSpan(&bytes, 1)),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       ::testing::AllOf(HasSubstr("/dev/full"), HasSubstr("No space left"))));
}

TEST(RealFileSystemTest, APipeIsRefusedAtOnce) {
  testing::TempDir folder;
  const std::string path = JoinPath(folder.path().string(), "pipe");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(RealFileSystem().Read(path, 0, 1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(path)));
  EXPECT_THAT(RealFileSystem().Read("/dev/null", 0, 1), IsOkAndHolds(""));
}

TEST(RealFileSystemTest, AFolderIsNotReadAsAFile) {
  testing::TempDir folder;
  EXPECT_THAT(RealFileSystem().Read(folder.path().string(), 0, 1).status().message(),
              HasSubstr("Is a directory"));
}

}  // namespace
}  // namespace weft
