#include "worker/train/learning_rate.h"

#include "tests/testing/status_matchers.h"

namespace weft::worker {
namespace {

using ::testing::HasSubstr;
using weft::testing::IsOk;
using weft::testing::StatusIs;

LearningRateConfig Config(Schedule schedule) {
  return {
      .schedule = schedule, .peak = 0.8, .final_ratio = 0.25, .warmup_steps = 4, .total_steps = 12};
}

// Values computed by hand from the definitions.
TEST(LearningRateTest, WarmsUpOnALineToThePeak) {
  for (const Schedule schedule :
       {Schedule::kConstant, Schedule::kCosine, Schedule::kLinear, Schedule::kInverseSqrt}) {
    EXPECT_DOUBLE_EQ(LearningRateAt(Config(schedule), 1), 0.2);
    EXPECT_DOUBLE_EQ(LearningRateAt(Config(schedule), 3), 0.6);
    EXPECT_DOUBLE_EQ(LearningRateAt(Config(schedule), 4), 0.8);
  }
}

TEST(LearningRateTest, ConstantStaysAtThePeak) {
  EXPECT_DOUBLE_EQ(LearningRateAt(Config(Schedule::kConstant), 12), 0.8);
}

TEST(LearningRateTest, CosineFallsToTheFinalRate) {
  const LearningRateConfig config = Config(Schedule::kCosine);
  EXPECT_NEAR(LearningRateAt(config, 6), 0.7121320343559643, 1e-15);  // 0.5 + 0.3 cos(pi/4)
  EXPECT_NEAR(LearningRateAt(config, 8), 0.5, 1e-15);
  EXPECT_NEAR(LearningRateAt(config, 12), 0.2, 1e-15);
}

TEST(LearningRateTest, LinearFallsOnALine) {
  const LearningRateConfig config = Config(Schedule::kLinear);
  EXPECT_NEAR(LearningRateAt(config, 6), 0.65, 1e-15);
  EXPECT_NEAR(LearningRateAt(config, 12), 0.2, 1e-15);
}

TEST(LearningRateTest, InverseSqrtFallsWithTheStepDownToTheFinalRate) {
  LearningRateConfig config = Config(Schedule::kInverseSqrt);
  EXPECT_NEAR(LearningRateAt(config, 9), 0.8 * 2.0 / 3.0, 1e-15);
  config.total_steps = 1000;
  EXPECT_DOUBLE_EQ(LearningRateAt(config, 1000), 0.2);
  config.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(LearningRateAt(config, 1), 0.8);
  EXPECT_DOUBLE_EQ(LearningRateAt(config, 4), 0.4);
}

TEST(LearningRateTest, OneCycleRisesAndFallsOnCosines) {
  const LearningRateConfig config = Config(Schedule::kOneCycle);
  EXPECT_NEAR(LearningRateAt(config, 1), 0.11715728752538102, 1e-15);  // 0.4 (1 - cos(pi/4))
  EXPECT_NEAR(LearningRateAt(config, 2), 0.4, 1e-15);
  EXPECT_NEAR(LearningRateAt(config, 4), 0.8, 1e-15);
  EXPECT_NEAR(LearningRateAt(config, 8), 0.5, 1e-15);
  EXPECT_NEAR(LearningRateAt(config, 12), 0.2, 1e-15);
}

TEST(LearningRateTest, AllStepsMayBeWarmUp) {
  LearningRateConfig config = Config(Schedule::kCosine);
  config.warmup_steps = config.total_steps;
  EXPECT_DOUBLE_EQ(LearningRateAt(config, 12), 0.8);
}

TEST(LearningRateTest, RefusesWhatMakesNoSchedule) {
  EXPECT_THAT(Validate(Config(Schedule::kCosine)), IsOk());
  LearningRateConfig config = Config(Schedule::kCosine);
  config.peak = 0;
  EXPECT_THAT(Validate(config),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("positive")));
  config = Config(Schedule::kCosine);
  config.warmup_steps = 13;
  EXPECT_THAT(Validate(config),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 to the 12")));
  config = Config(Schedule::kCosine);
  config.final_ratio = 1.5;
  EXPECT_THAT(Validate(config), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 to 1")));
}

}  // namespace
}  // namespace weft::worker
