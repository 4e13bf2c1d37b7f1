#include "worker/data/readers/line_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/data/data_files.h"

namespace weft::worker {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

class LineFileTest : public DataFilesTest {
 protected:
  std::vector<std::string> LinesOf(const std::string& bytes) {
    auto file = LineFile::Open(Put("file", bytes));
    EXPECT_OK(file);
    std::vector<std::string> lines;
    for (int64_t i = 0; i < file->lines(); ++i) lines.emplace_back(file->Line(i));
    return lines;
  }
};

TEST_F(LineFileTest, LinesHaveNoEnds) {
  using Lines = std::vector<std::string>;
  EXPECT_EQ(LinesOf("a\nb\n"), (Lines{"a", "b"}));
  EXPECT_EQ(LinesOf("a\nb"), (Lines{"a", "b"}));
  EXPECT_EQ(LinesOf("a\r\n\r\nb\r\n"), (Lines{"a", "", "b"}));
  EXPECT_EQ(LinesOf("\n"), (Lines{""}));
  EXPECT_EQ(LinesOf("a\rb\n"), (Lines{"a\rb"}));
  EXPECT_EQ(LinesOf("a\r"), (Lines{"a\r"}));
}

TEST_F(LineFileTest, ErrorsCountFromOne) {
  ASSERT_OK_AND_ASSIGN(const LineFile file, LineFile::Open(Put("x", "a\nb\n")));
  EXPECT_THAT(file.Error(1, "wrong"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("x:2: wrong")));
}

TEST_F(LineFileTest, AFileWithoutLinesIsRefused) {
  EXPECT_THAT(LineFile::Open(Put("empty", "")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("empty is empty")));
  EXPECT_THAT(LineFile::Open(Path("none")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
}

}  // namespace
}  // namespace weft::worker
