#include "worker/prepare/token_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/data/data_files.h"

namespace weft::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class TokenWriterTest : public DataFilesTest {};

TEST_F(TokenWriterTest, WhatIsWrittenIsReadBack) {
  for (const int32_t vocabulary : {1 << 16, (1 << 16) + 1}) {
    TokenWriter writer(RealFileSystem(), {.prefix = Path("t"), .vocabulary = vocabulary});
    const std::vector<int32_t> tokens = {0, 1, 255, 256, vocabulary - 1};
    ASSERT_OK(writer.Append(tokens));
    ASSERT_OK(writer.Append({7}));
    ASSERT_OK(writer.Finish());
    EXPECT_EQ(writer.tokens(), 6);
    EXPECT_THAT(writer.paths(), ElementsAre(Path("t_000000.bin")));
    ASSERT_OK_AND_ASSIGN(const auto stream, OpenTokenFiles(writer.paths(), vocabulary));
    EXPECT_THAT(ReadAll(*stream), ElementsAre(0, 1, 255, 256, vocabulary - 1, 7));
    EXPECT_EQ(std::filesystem::file_size(Path("t_000000.bin")),
              1024U + 6 * (vocabulary > 1 << 16 ? 4 : 2));
  }
}

TEST_F(TokenWriterTest, FilesHaveTheSizeAskedFor) {
  TokenWriter writer(RealFileSystem(), {.prefix = Path("t"), .vocabulary = 100, .shard_tokens = 3});
  ASSERT_OK(writer.Append({1, 2, 3, 4, 5, 6, 7}));
  EXPECT_FALSE(std::filesystem::exists(Path("t_000002.bin")));
  ASSERT_OK(writer.Finish());
  ASSERT_EQ(writer.paths().size(), 3U);
  ASSERT_OK_AND_ASSIGN(const auto all, OpenTokenFiles(writer.paths(), 100));
  EXPECT_THAT(ReadAll(*all), ElementsAre(1, 2, 3, 4, 5, 6, 7));
  ASSERT_OK_AND_ASSIGN(const auto last, OpenTokenFiles({Path("t_000002.bin")}, 100));
  EXPECT_THAT(ReadAll(*last), ElementsAre(7));
}

TEST_F(TokenWriterTest, NoTokensNoFile) {
  TokenWriter writer(RealFileSystem(), {.prefix = Path("t"), .vocabulary = 100});
  ASSERT_OK(writer.Finish());
  EXPECT_THAT(writer.paths(), IsEmpty());
}

TEST_F(TokenWriterTest, AFullFolderIsAnError) {
  TokenWriter writer(RealFileSystem(), {.prefix = Path("none/t"), .vocabulary = 100});
  ASSERT_OK(writer.Append({1}));
  EXPECT_FALSE(writer.Finish().ok());
}

}  // namespace
}  // namespace weft::worker
