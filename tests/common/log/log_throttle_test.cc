#include "common/log/log_throttle.h"

#include <gtest/gtest.h>

namespace weft {
namespace {

const absl::Time kBegin = absl::FromUnixSeconds(1000);

TEST(LogThrottle, LetsTheFirstOfAPeriodThroughAndCountsTheOthers) {
  LogThrottle throttle(2, absl::Minutes(1));
  EXPECT_EQ(throttle.Admit("a", kBegin), 0);
  EXPECT_EQ(throttle.Admit("a", kBegin + absl::Seconds(1)), 0);
  for (int i = 2; i < 60; ++i) {
    EXPECT_EQ(throttle.Admit("a", kBegin + absl::Seconds(i)), std::nullopt);
  }
  EXPECT_EQ(throttle.Admit("a", kBegin + absl::Minutes(1)), 58);
  EXPECT_EQ(throttle.Admit("a", kBegin + absl::Minutes(1)), 0);
  EXPECT_EQ(throttle.Admit("a", kBegin + absl::Minutes(1)), std::nullopt);
}

TEST(LogThrottle, CountsEachKindForItself) {
  LogThrottle throttle(1, absl::Minutes(1));
  EXPECT_EQ(throttle.Admit("a", kBegin), 0);
  EXPECT_EQ(throttle.Admit("a", kBegin), std::nullopt);
  EXPECT_EQ(throttle.Admit("b", kBegin), 0);
}

}  // namespace
}  // namespace weft
