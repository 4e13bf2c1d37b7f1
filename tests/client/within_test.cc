#include "client/within.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace weft::client {
namespace {

std::string Problem(const CLI::Validator& check, std::string text) { return check(text); }

TEST(Within, SaysWhatIsAllowed) {
  EXPECT_EQ(Problem(Within(1, 64), "64"), "");
  EXPECT_EQ(Problem(Within(1, 64), "0"), "must be a whole number from 1 to 64, is 0");
  EXPECT_EQ(Problem(Within(1, 64), "two"), "must be a whole number from 1 to 64, is two");
  EXPECT_EQ(Problem(Within(1, 64), "1.5"), "must be a whole number from 1 to 64, is 1.5");
}

TEST(Within, NamesNoLimitThatIsNone) {
  EXPECT_EQ(Problem(Within<int64_t>(1), "-7"), "must be a whole number of at least 1, is -7");
  EXPECT_EQ(Problem(Within<int64_t>(1), "9000000000"), "");
  EXPECT_EQ(Problem(Within(0.0), "-1"), "must be a number of at least 0, is -1");
  EXPECT_EQ(Problem(Within(0.0), "nan"), "must be a number of at least 0, is nan");
  EXPECT_EQ(Problem(Within(0.0), "0.8"), "");
}

TEST(Within, ANumberBeyondItsTypeIsToldTheGreatest) {
  EXPECT_EQ(Problem(Within<int32_t>(0), "9000000000"),
            "must be a whole number of at most 2147483647, is 9000000000");
}

}  // namespace
}  // namespace weft::client
