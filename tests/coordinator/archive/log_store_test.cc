#include "coordinator/archive/log_store.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "coordinator/archive/log_line.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace weft::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::IsOkAndHolds;

constexpr int64_t kEverything = int64_t{1} << 30;

v1::LogLine Line(const std::string& text, int64_t seconds, int32_t rank = 0) {
  v1::LogLine line;
  line.mutable_time()->set_seconds(seconds);
  line.mutable_time()->set_nanos(5000);
  line.set_rank(rank);
  line.set_generation(2);
  line.set_text(text);
  return line;
}

class LogStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(int64_t{1} << 20); }
  void Open(int64_t max_bytes) {
    store_ = std::make_unique<LogStore>(
        LogStore::Options{.directory = directory_.path().string(), .max_bytes_per_job = max_bytes});
  }
  std::vector<std::string> Texts(int64_t position = 0, std::optional<int32_t> rank = std::nullopt) {
    std::vector<std::string> texts;
    while (true) {
      const auto chunk = store_->Read("demo-1", position, rank, 1000);
      EXPECT_THAT(chunk, IsOk());
      if (!chunk.ok()) return texts;
      for (const v1::LogLine& line : chunk->lines) texts.push_back(line.text());
      position = chunk->next;
      if (chunk->at_end) return texts;
    }
  }
  std::filesystem::path File() { return directory_.path() / "demo-1.log"; }

  testing::TempDir directory_;
  std::unique_ptr<LogStore> store_;
};

TEST_F(LogStoreTest, LinesComeBackWithAllTheirFieldsAlsoAfterARestart) {
  EXPECT_THAT(store_->Append("demo-1", "w1", 0, {Line("step 1: loss 5.5", 100, 3)}),
              IsOkAndHolds(1));
  Open(1 << 20);
  ASSERT_OK_AND_ASSIGN(const LogStore::Chunk chunk,
                       store_->Read("demo-1", 0, std::nullopt, kEverything));
  ASSERT_EQ(chunk.lines.size(), 1U);
  v1::LogLine expected = Line("step 1: loss 5.5", 100, 3);
  expected.set_worker("w1");
  expected.set_next_position(chunk.next);
  EXPECT_EQ(chunk.lines[0].SerializeAsString(), expected.SerializeAsString());
  EXPECT_TRUE(chunk.at_end);
}

TEST_F(LogStoreTest, TheFileIsReadable) {
  ASSERT_OK(store_->Append("demo-1", "w1", 4, {Line("hello", 100), Line("bye", 101, -1)}));
  std::ifstream file(File());
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_THAT(text, HasSubstr("1970-01-01T00:01:40.000005Z w1/0 g2 #4 hello\n"));
  EXPECT_THAT(text, HasSubstr(" w1/agent g2 #5 bye\n"));
}

TEST_F(LogStoreTest, RepeatedLinesAreStoredOnceAlsoAfterARestart) {
  ASSERT_OK(store_->Append("demo-1", "w1", 0, {Line("a", 1), Line("b", 2)}));
  EXPECT_THAT(store_->Append("demo-1", "w1", 1, {Line("b", 2), Line("c", 3)}), IsOkAndHolds(3));
  ASSERT_OK(store_->Append("demo-1", "w2", 0, {Line("other worker", 3)}));
  Open(1 << 20);
  EXPECT_THAT(store_->Append("demo-1", "w1", 0, {Line("a", 1), Line("b", 2), Line("c", 3)}),
              IsOkAndHolds(3));
  EXPECT_THAT(Texts(), ElementsAre("a", "b", "c", "other worker"));
}

TEST_F(LogStoreTest, AWorkerThatLostItsDiskCountsAnew) {
  ASSERT_OK(store_->Append("demo-1", "w1", 0, {Line("a", 1), Line("b", 2)}));
  EXPECT_THAT(store_->Append("demo-1", "w1", 0, {Line("new a", 10)}), IsOkAndHolds(1));
  EXPECT_THAT(Texts(), ElementsAre("a", "b", "new a"));
}

TEST_F(LogStoreTest, AGapIsAccepted) {
  ASSERT_OK(store_->Append("demo-1", "w1", 0, {Line("a", 1)}));
  EXPECT_THAT(store_->Append("demo-1", "w1", 10, {Line("b", 2)}), IsOkAndHolds(11));
  EXPECT_THAT(Texts(), ElementsAre("a", "b"));
}

TEST_F(LogStoreTest, OldLinesGoWhenTheLogIsFullAndPositionsStayValid) {
  Open(20000);
  for (int i = 0; i < 1000; ++i) {
    ASSERT_OK(store_->Append("demo-1", "w1", i, {Line(absl::StrCat("line ", i), i)}));
  }
  const auto bytes =
      std::filesystem::file_size(File()) + std::filesystem::file_size(File().string() + ".1");
  EXPECT_LE(bytes, 21000U);
  std::vector<std::string> texts = Texts();
  ASSERT_FALSE(texts.empty());
  EXPECT_EQ(texts.back(), "line 999");
  EXPECT_GT(texts.size(), 150U);  // at least half of what may be kept
  for (size_t i = 1; i < texts.size(); ++i) {
    EXPECT_EQ(texts[i], absl::StrCat("line ", 1000 - texts.size() + i));
  }
  // A reader that has read all goes on where it was, also over a rotation and a restart.
  ASSERT_OK_AND_ASSIGN(const LogStore::Chunk chunk,
                       store_->Read("demo-1", kEverything, std::nullopt, kEverything));
  Open(20000);
  EXPECT_THAT(store_->Append("demo-1", "w1", 999, {Line("again", 999)}), IsOkAndHolds(1000));
  for (int i = 1000; i < 1100; ++i) {
    ASSERT_OK(store_->Append("demo-1", "w1", i, {Line(absl::StrCat("line ", i), i)}));
  }
  texts = Texts(chunk.next);
  ASSERT_EQ(texts.size(), 100U);
  EXPECT_EQ(texts.front(), "line 1000");
}

TEST_F(LogStoreTest, EachLineKnowsWhereToReadOnAfterIt) {
  ASSERT_OK(store_->Append("demo-1", "w1", 0, {Line("a", 1), Line("b", 2, 1), Line("c", 3)}));
  ASSERT_OK_AND_ASSIGN(const LogStore::Chunk chunk, store_->Read("demo-1", 0, 0, kEverything));
  ASSERT_EQ(chunk.lines.size(), 2U);
  EXPECT_THAT(Texts(chunk.lines[0].next_position()), ElementsAre("b", "c"));
  EXPECT_THAT(Texts(chunk.lines[1].next_position()), ::testing::IsEmpty());
}

TEST_F(LogStoreTest, FindsTheLastLinesOfARank) {
  std::vector<v1::LogLine> lines;
  lines.reserve(20000);
  for (int i = 0; i < 20000; ++i) lines.push_back(Line(absl::StrCat("line ", i), i, i % 2));
  Open(int64_t{64} << 20);
  ASSERT_OK(store_->Append("demo-1", "w1", 0, lines));
  ASSERT_OK_AND_ASSIGN(int64_t position, store_->FindTail("demo-1", 2, std::nullopt));
  EXPECT_THAT(Texts(position), ElementsAre("line 19998", "line 19999"));
  ASSERT_OK_AND_ASSIGN(position, store_->FindTail("demo-1", 2, 1));
  EXPECT_THAT(Texts(position, 1), ElementsAre("line 19997", "line 19999"));
  // More than the first window holds, and more than there are.
  ASSERT_OK_AND_ASSIGN(position, store_->FindTail("demo-1", 15000, std::nullopt));
  EXPECT_EQ(Texts(position).size(), 15000U);
  ASSERT_OK_AND_ASSIGN(position, store_->FindTail("demo-1", 50000, std::nullopt));
  EXPECT_EQ(Texts(position).size(), 20000U);
}

TEST_F(LogStoreTest, ATornLineIsDroppedAndTheNextOneIsWhole) {
  ASSERT_OK(store_->Append("demo-1", "w1", 0, {Line("a", 1)}));
  std::ofstream(File(), std::ios::app) << "1970-01-01T00:00:09.000000Z w1/0 g2 #1 to";
  Open(1 << 20);
  EXPECT_THAT(store_->Append("demo-1", "w1", 1, {Line("b", 2)}), IsOkAndHolds(2));
  EXPECT_THAT(Texts(), ElementsAre("a", "b"));
}

TEST_F(LogStoreTest, AFileThatIsNoLogIsReplaced) {
  std::ofstream(File()) << "something else\n";
  EXPECT_THAT(Texts(), IsEmpty());
  ASSERT_OK(store_->Append("demo-1", "w1", 0, {Line("a", 1)}));
  Open(1 << 20);
  EXPECT_THAT(Texts(), ElementsAre("a"));
}

TEST_F(LogStoreTest, LineBreaksWithinALineBecomeSpacesAndLongLinesAreCut) {
  ASSERT_OK(
      store_->Append("demo-1", "w1", 0, {Line("a\nb\rc", 1), Line(std::string(1 << 20, 'x'), 2)}));
  const std::vector<std::string> texts = Texts();
  ASSERT_EQ(texts.size(), 2U);
  EXPECT_EQ(texts[0], "a b c");
  EXPECT_EQ(texts[1].size(), 16384U);
}

TEST_F(LogStoreTest, ADeletedLogIsGone) {
  Open(2000);
  for (int i = 0; i < 100; ++i) ASSERT_OK(store_->Append("demo-1", "w1", i, {Line("a", i)}));
  ASSERT_OK(store_->Delete("demo-1"));
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
  EXPECT_THAT(Texts(), IsEmpty());
}

TEST(LogLineTest, WhatIsNoLineIsNotParsed) {
  for (const char* text :
       {"", "# log base=0", "2026-01-01T00:00:00Z w1/0 g2 17 x", "2026-01-01T00:00:00Z w1 g2 #17 x",
        "yesterday w1/0 g2 #17 x", "2026-01-01T00:00:00Z w1/x g2 #17 x"}) {
    EXPECT_FALSE(ParseLogLine(text).has_value()) << text;
  }
  const auto parsed = ParseLogLine("2026-01-01T00:00:00Z w1/0 g2 #17 ");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->line.text(), "");
}

}  // namespace
}  // namespace weft::coordinator
