#include "client/text.h"

#include <gtest/gtest.h>

#include "client/terminal.h"

namespace weft::client {
namespace {

TEST(ShortDuration, UsesAtMostTwoUnits) {
  EXPECT_EQ(ShortDuration(absl::Milliseconds(850)), "850ms");
  EXPECT_EQ(ShortDuration(absl::Seconds(119)), "119s");
  EXPECT_EQ(ShortDuration(absl::Seconds(200)), "3m20s");
  EXPECT_EQ(ShortDuration(absl::Minutes(125)), "2h05m");
  EXPECT_EQ(ShortDuration(absl::Hours(99)), "4d");
}

TEST(ShortDuration, OfAPastMomentIsZero) { EXPECT_EQ(ShortDuration(absl::Seconds(-3)), "0ms"); }

TEST(Bytes, UsesBinaryUnits) {
  EXPECT_EQ(Bytes(512), "512 B");
  EXPECT_EQ(Bytes(3565158), "3.4 MiB");
}

TEST(Count, UsesDecimalUnits) {
  EXPECT_EQ(Count(950), "950");
  EXPECT_EQ(Count(12345), "12.3k");
  EXPECT_EQ(Count(4.56e6), "4.56M");
}

TEST(ShortName, IsWhatFollowsTheCollection) {
  EXPECT_EQ(ShortName("jobs/demo-1"), "demo-1");
  EXPECT_EQ(ShortName("demo-1"), "demo-1");
  EXPECT_EQ(ShortName("jobs/demo-1/checkpoints/5"), "demo-1/checkpoints/5");
}

TEST(Age, OfAnUnsetMomentIsADash) {
  EXPECT_EQ(Age(google::protobuf::Timestamp(), absl::FromUnixSeconds(100)), "-");
  google::protobuf::Timestamp moment;
  moment.set_seconds(60);
  EXPECT_EQ(Age(moment, absl::FromUnixSeconds(100)), "40s");
}

TEST(ForTerminal, LetsNoTextOfAModelSpeakToTheTerminal) {
  EXPECT_EQ(ForTerminal("a\tb\n\x1b[2J\r\x7f \xc3\xa9 \xff"), "a\tb\n?[2J?? \xc3\xa9 \xff");
}

}  // namespace
}  // namespace weft::client
