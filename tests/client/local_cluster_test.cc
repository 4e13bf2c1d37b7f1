#include "client/local_cluster.h"

#include <gtest/gtest.h>

namespace weft::client {
namespace {

TEST(LastWords, AreWhatAProgramSaysBehindItsLog) {
  EXPECT_EQ(
      LastWords("weft-worker", "n info config: threads: 1\nweft-worker: the port is in use\n"),
      "the port is in use");
  EXPECT_EQ(LastWords("weft-worker", "weft-worker: the port is in use\n"), "the port is in use");
}

TEST(LastWords, MayBeSeveralLines) {
  EXPECT_EQ(LastWords("weft-worker", "a log\nweft-worker: listen: is wrong\nname: is missing\n"),
            "listen: is wrong\nname: is missing");
}

TEST(LastWords, OfAProgramThatCouldSayNothingAreItsLastLine) {
  EXPECT_EQ(LastWords("weft-worker", "one\nlink.cc:7: check failed: open\n"),
            "link.cc:7: check failed: open");
  EXPECT_EQ(LastWords("weft-worker", "one"), "one");
  EXPECT_EQ(LastWords("weft-worker", ""), "");
}

}  // namespace
}  // namespace weft::client
