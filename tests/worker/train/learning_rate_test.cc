#include "worker/train/learning_rate.h"

#include <algorithm>
#include <cmath>

#include "tests/testing/status_matchers.h"
#include "worker/train/train_config.h"

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

// PyTorch's one-cycle policy with lines instead of cosines, as the Long Range Arena is trained
// with: from peak / 25 at the first step to the peak at the end of the warm-up and to peak / 25 /
// 10^4 at the last step, beta1 from 0.95 to 0.85 and back.
TEST(LearningRateTest, OneCycleOnLines) {
  const LearningRateConfig config{.schedule = Schedule::kLinear,
                                  .peak = 5e-4,
                                  .final_ratio = 4e-6,
                                  .warmup_steps = 1000,
                                  .total_steps = 5000,
                                  .initial_ratio = 0.04};
  EXPECT_THAT(Validate(config), IsOk());
  EXPECT_NEAR(LearningRateAt(config, 1), 2e-5, 1e-18);
  EXPECT_NEAR(LearningRateAt(config, 1000), 5e-4, 1e-18);
  EXPECT_NEAR(LearningRateAt(config, 5000), 2e-9, 1e-18);
  EXPECT_NEAR(LearningRateAt(config, 334), 2e-5 + 4.8e-4 * 333 / 999, 1e-18);
  EXPECT_NEAR(LearningRateAt(config, 3000), (5e-4 + 2e-9) / 2, 1e-18);
  const auto beta1 = [&](int64_t step) {
    TrainConfig train;
    train.learning_rate = config;
    train.optimizer = {.beta1 = 0.95, .beta1_at_peak = 0.85};
    return Beta1At(train, step);
  };
  EXPECT_NEAR(beta1(1), 0.95, 1e-15);
  EXPECT_NEAR(beta1(1000), 0.85, 1e-15);
  EXPECT_NEAR(beta1(5000), 0.95, 1e-15);
  EXPECT_NEAR(beta1(3000), 0.90, 1e-15);
  EXPECT_EQ(Beta1At({}, 1), 0.9);
}

TEST(LearningRateTest, StepHoldsThePeakAndThenTheFinalRate) {
  LearningRateConfig config = Config(Schedule::kStep);
  config.hold_steps = 9;
  EXPECT_THAT(Validate(config), IsOk());
  EXPECT_DOUBLE_EQ(LearningRateAt(config, 4), 0.8);
  EXPECT_DOUBLE_EQ(LearningRateAt(config, 9), 0.8);
  EXPECT_DOUBLE_EQ(LearningRateAt(config, 10), 0.2);
}

// base * min(1, t / W) / sqrt(max(t, W)), as the Long Range Arena's own program has it, is an
// inverse root with the peak base / sqrt(W).
TEST(LearningRateTest, InverseSqrtHasTheRatesOfTheLongRangeArena) {
  for (const auto& [warmup, peak] : {std::pair{1000.0, 1.58e-3}, {8000.0, 5.59e-4}}) {
    const LearningRateConfig config{.schedule = Schedule::kInverseSqrt,
                                    .peak = 0.05 / std::sqrt(warmup),
                                    .final_ratio = 0,
                                    .warmup_steps = static_cast<int64_t>(warmup),
                                    .total_steps = 20000};
    EXPECT_NEAR(config.peak, peak, 2e-6);
    for (const double t : {1.0, 500.0, warmup, 10000.0, 20000.0}) {
      EXPECT_NEAR(LearningRateAt(config, static_cast<int64_t>(t)),
                  0.05 * std::min(1.0, t / warmup) / std::sqrt(std::max(t, warmup)), 1e-15);
    }
  }
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
  const auto refused = [](LearningRateConfig bad, const char* complaint) {
    EXPECT_THAT(Validate(bad), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(complaint)));
  };
  config = Config(Schedule::kCosine);
  config.initial_ratio = 1.5;
  refused(config, "initial_ratio is 1.5");
  config = Config(Schedule::kOneCycle);
  config.initial_ratio = 0.5;
  refused(config, "at least two steps on a line");
  config = Config(Schedule::kCosine);
  config.hold_steps = 6;
  refused(config, "of the schedule step alone");
  for (const int64_t hold : {0, 4, 13}) {
    config = Config(Schedule::kStep);
    config.hold_steps = hold;
    refused(config, "above warmup_steps and at most the 12 steps");
  }
}

}  // namespace
}  // namespace weft::worker
