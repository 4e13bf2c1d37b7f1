#include "client/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace weft::client {
namespace {

TEST(Table, AlignsColumnsAndEndsLinesWithoutBlanks) {
  Table table({"NAME", "STATE"});
  table.Add({"demo-1", "RUNNING"});
  table.Add({"a", ""});
  std::ostringstream out;
  table.Print(out);
  EXPECT_EQ(out.str(),
            "NAME    STATE\n"
            "demo-1  RUNNING\n"
            "a       -\n");
}

TEST(Table, LeavesColumnsOutUntilItFits) {
  Table table({"NAME", "STATE", "AGE", "REASON"});
  table.Add({"demo-1", "QUEUED", "12s", "waits"});
  const auto narrowed = [&](size_t characters) {
    Table copy = table;
    copy.Narrow(characters, {"AGE", "STATE"});
    std::ostringstream out;
    copy.Print(out);
    return out.str();
  };
  EXPECT_EQ(narrowed(27),
            "NAME    STATE   AGE  REASON\n"
            "demo-1  QUEUED  12s  waits\n");
  EXPECT_EQ(narrowed(26),
            "NAME    STATE   REASON\n"
            "demo-1  QUEUED  waits\n");
  EXPECT_EQ(narrowed(1),
            "NAME    REASON\n"
            "demo-1  waits\n");
}

TEST(Table, CutsSentencesToTheWidthOfAScreen) {
  Table table({"NAME", "STATE", "REASON"});
  table.Add({"demo-1", "QUEUED", "needs 2 cpu workers, 1 is free"});
  table.Add({"demo-2", "QUEUED", "short"});
  const auto cut = [&](size_t characters) {
    Table copy = table;
    copy.Cut(characters);
    std::ostringstream out;
    copy.Print(out);
    return out.str();
  };
  EXPECT_EQ(cut(41),
            "NAME    STATE   REASON\n"
            "demo-1  QUEUED  needs 2 cpu workers, 1...\n"
            "demo-2  QUEUED  short\n");
  EXPECT_THAT(cut(46), ::testing::HasSubstr("needs 2 cpu workers, 1 is free\n"));
  EXPECT_THAT(cut(10), ::testing::HasSubstr("  needs 2 cpu workers, ...\n")) << "24 of it always";
}

}  // namespace
}  // namespace weft::client
