#include "common/file/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <string>
#include <utility>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

class MappedFileTest : public ::testing::Test {
 protected:
  std::string Put(const std::string& name, const std::string& bytes) {
    const std::string path = (folder_.path() / name).string();
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  testing::TempDir folder_;
};

TEST_F(MappedFileTest, ShowsTheBytesAndSurvivesMoves) {
  ASSERT_OK_AND_ASSIGN(MappedFile file, MappedFile::Open(Put("f", "hello")));
  EXPECT_EQ(file.bytes(), "hello");
  MappedFile moved = std::move(file);
  EXPECT_EQ(moved.bytes(), "hello");
  ASSERT_OK_AND_ASSIGN(MappedFile other, MappedFile::Open(Put("g", "other")));
  other = std::move(moved);
  EXPECT_EQ(other.bytes(), "hello");
}

TEST_F(MappedFileTest, AnEmptyFileHasNoBytes) {
  ASSERT_OK_AND_ASSIGN(const MappedFile file, MappedFile::Open(Put("f", "")));
  EXPECT_EQ(file.bytes(), "");
}

TEST_F(MappedFileTest, RefusesWhatIsNoFile) {
  EXPECT_THAT(MappedFile::Open((folder_.path() / "absent").string()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
  EXPECT_THAT(MappedFile::Open(folder_.path().string()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a regular file")));
  const std::string pipe = (folder_.path() / "pipe").string();
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(MappedFile::Open(pipe),  // and does not wait for a writer
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("pipe")));
}

}  // namespace
}  // namespace weft
