#include "client/full_screen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Frame, CutsLinesAndCoversEveryRow) {
  EXPECT_EQ(Frame({"abcdef", "x"}, "keys", 4, 4),
            "\x1b[Habc\x1b[K\r\nx\x1b[K\r\n\x1b[K\r\n\x1b[7mkey\x1b[0m\x1b[K");
}

TEST(Frame, ShowsNoLineBelowTheScreenAndCutsNoLetterInTwo) {
  EXPECT_EQ(Frame({"aé", "x", "y"}, "k", 3, 3),
            "\x1b[Ha\x1b[K\r\nx\x1b[K\r\n\x1b[7mk\x1b[0m\x1b[K");
  EXPECT_EQ(Frame({"a"}, "k", 0, 0), "\x1b[Ha\x1b[K\r\n\x1b[7mk\x1b[0m\x1b[K");
}

TEST(ParseKeys, KnowsEscapeFromKeysThatBeginWithIt) {
  EXPECT_THAT(ParseKeys("q\x1b"), ElementsAre('q', kKeyEscape));
  EXPECT_THAT(ParseKeys("\x1b[A\x1bOB\x1b[5~\x1b[6~\x1b[H\x1b[4~"),
              ElementsAre(kKeyUp, kKeyDown, kKeyPageUp, kKeyPageDown, kKeyHome, kKeyEnd));
}

TEST(ParseKeys, LeavesOutWhatItDoesNotKnow) {
  EXPECT_THAT(ParseKeys("\x1b[15~\x1b[1;5Cs"), ElementsAre('s'));
  EXPECT_THAT(ParseKeys("\x1b["), IsEmpty());
  EXPECT_THAT(ParseKeys(""), IsEmpty());
}

}  // namespace
}  // namespace weft::client
