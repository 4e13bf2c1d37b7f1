// The small parts of a training step: shards, shared values, the exchange thread, captured passes,
// the time ledger, the configuration's digest.
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <thread>

#include "common/base/status_macros.h"
#include "kernels/device/reference/reference_device.h"
#include "kernels/ops/register.h"
#include "tests/testing/late_device.h"
#include "tests/testing/status_matchers.h"
#include "worker/comm/in_process_exchange.h"
#include "worker/model/model.h"
#include "worker/train/captured_passes.h"
#include "worker/train/exchange_patience.h"
#include "worker/train/exchange_thread.h"
#include "worker/train/gpu_bench_models.h"
#include "worker/train/shard_plan.h"
#include "worker/train/shared_values.h"
#include "worker/train/time_ledger.h"
#include "worker/train/train_config.h"

namespace weft::worker {
namespace {

using ::testing::HasSubstr;
using weft::testing::IsOk;
using weft::testing::StatusIs;

TEST(ShardPlanTest, EveryShardBelongsToOneRankAndNoRankIsIdle) {
  for (int64_t shards = 1; shards <= 12; ++shards) {
    for (int64_t ranks = 1; ranks <= shards; ++ranks) {
      int64_t next = 0;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const ShardRange range = ShardsOfRank(shards, rank, ranks);
        EXPECT_EQ(range.first, next);
        EXPECT_GE(range.count(), shards / ranks);
        EXPECT_LE(range.count(), (shards + ranks - 1) / ranks);
        next = range.last;
      }
      EXPECT_EQ(next, shards);
    }
  }
}

// What published speeds are compared with is measured on the published models.
TEST(GpuBenchModelsTest, HaveTheParametersOfThePublishedModels) {
  for (const auto& [config, want] :
       {std::pair{Gpt2(), 124475904}, std::pair{DeltaNet(4096, 8, 4), 1365677056}}) {
    ASSERT_OK_AND_ASSIGN(const auto model, NewModel(config.model));
    EXPECT_EQ(model->layout().parameter_count(), want);
  }
}

// A stream that captures: what it is told, it does when it is replayed.
class CapturingStream final : public kernels::Stream {
 public:
  explicit CapturingStream(kernels::Device& device) : device_(device) {}
  [[nodiscard]] kernels::Device& device() const override { return device_; }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  std::unique_ptr<kernels::CapturedOps> Capture(absl::FunctionRef<absl::Status()> ops) override {
    ++captures;
    if (refuses || !ops().ok()) return nullptr;
    return std::make_unique<Ops>(*this);
  }
  absl::Status Replay(const kernels::CapturedOps& ops) override {
    EXPECT_TRUE(ops.IsValid());
    ++replays;
    return absl::OkStatus();
  }

  bool refuses = false;
  bool has_moved = false;
  int captures = 0;
  int replays = 0;

 private:
  struct Ops final : kernels::CapturedOps {
    explicit Ops(const CapturingStream& owner) : stream(owner) {}
    [[nodiscard]] bool IsValid() const override { return !stream.has_moved; }
    const CapturingStream& stream;
  };
  kernels::Device& device_;
};

class CapturedPassesTest : public ::testing::Test {
 protected:
  absl::Status Step(size_t passes = 1) {
    for (size_t i = 0; i < passes; ++i) {
      WEFT_RETURN_IF_ERROR(passes_.Run(i, [this] {
        ++calls_;
        return absl::OkStatus();
      }));
    }
    return absl::OkStatus();
  }

  const std::unique_ptr<kernels::Device> device_ = kernels::NewReferenceDevice();
  CapturingStream stream_{*device_};
  Scratch scratch_{*device_};
  CapturedPasses passes_{stream_, scratch_};
  int calls_ = 0;
};

TEST_F(CapturedPassesTest, TheSecondTimeCapturesAndAllFromThenOnReplay) {
  ASSERT_OK(Step());
  EXPECT_EQ(stream_.captures, 0);
  for (int i = 0; i < 3; ++i) ASSERT_OK(Step());
  EXPECT_EQ(stream_.captures, 1);
  EXPECT_EQ(calls_, 2);  // run, captured
  EXPECT_EQ(stream_.replays, 3);
  EXPECT_EQ(passes_.replays(), 3);
}

TEST_F(CapturedPassesTest, WhatCannotBeCapturedIsRunEachTimeAndTriedOnce) {
  stream_.refuses = true;
  for (int i = 0; i < 4; ++i) ASSERT_OK(Step());
  EXPECT_EQ(stream_.captures, 1);
  EXPECT_EQ(calls_, 4);
  EXPECT_EQ(passes_.replays(), 0);
}

TEST_F(CapturedPassesTest, MemoryThatHasMovedCallsForAnotherCapture) {
  for (int i = 0; i < 3; ++i) ASSERT_OK(Step());
  {
    const Scratch::Frame frame(scratch_);
    ASSERT_OK(scratch_.Take({100}).status());
  }
  ASSERT_OK(Step());
  EXPECT_EQ(stream_.captures, 2);
  stream_.has_moved = true;
  ASSERT_OK(passes_.Run(0, [&] {
    stream_.has_moved = false;
    return absl::OkStatus();
  }));
  EXPECT_EQ(stream_.captures, 3);
}

TEST_F(CapturedPassesTest, PassesAreCapturedOneByOneAndNotWithoutEnd) {
  for (int i = 0; i < 2; ++i) ASSERT_OK(Step(/*passes=*/40));
  EXPECT_EQ(stream_.captures, 32);
  EXPECT_EQ(passes_.replays(), 32);
  EXPECT_EQ(calls_, 40 + 40);
}

TEST(ExchangePatienceTest, IsTenTimesTheSlowestStepAndNeverLessThanHalfAMinute) {
  ExchangePatience patience(absl::Minutes(5));
  EXPECT_EQ(patience.next(), absl::Minutes(5));
  patience.OnStep(absl::Minutes(3), false);  // the first one: data were opened, a checkpoint read
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(patience.next(), absl::Minutes(5));
    patience.OnStep(absl::Milliseconds(10), false);
  }
  EXPECT_EQ(patience.next(), absl::Seconds(30));
  patience.OnStep(absl::Seconds(45), false);
  EXPECT_EQ(patience.next(), absl::Seconds(450)) << "slow steps get more than is usual";
}

TEST(ExchangePatienceTest, BehindACheckpointOrAnEvaluationNothingIsConcluded) {
  ExchangePatience patience(absl::Minutes(5));
  for (int i = 0; i < 4; ++i) patience.OnStep(absl::Seconds(1), false);
  ASSERT_EQ(patience.next(), absl::Seconds(30));
  patience.OnStep(absl::Minutes(2), true);  // it saves
  EXPECT_EQ(patience.next(), absl::Minutes(5));
  patience.OnStep(absl::Minutes(2), false);  // the others have waited for it
  EXPECT_EQ(patience.next(), absl::Seconds(30));
}

TEST(SharedValuesTest, EveryRankHasEveryValueBitByBit) {
  constexpr int ranks = 3;
  const std::vector<double> values = {0.1,
                                      -1e300,
                                      std::numeric_limits<double>::denorm_min(),
                                      std::numeric_limits<double>::infinity(),
                                      -0.0,
                                      7.0};
  auto hub = std::make_shared<InProcessHub>();
  std::vector<std::thread> threads;
  threads.reserve(ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      weft::testing::LateDevice device;
      auto stream = device.NewStream();
      InProcessExchange exchange(hub);
      ASSERT_OK(exchange.Prepare({.job = "j",
                                  .generation = Generation(1),
                                  .rank = rank,
                                  .ranks = ranks,
                                  .relay_channel = ""},
                                 absl::Now() + absl::Minutes(1)));
      auto shared = SharedValues::Create(device, static_cast<int64_t>(values.size()));
      ASSERT_OK(shared);
      for (size_t i = 0; i < values.size(); ++i) {
        if (static_cast<int>(i) % ranks == rank) shared->Set(static_cast<int64_t>(i), values[i]);
      }
      ASSERT_OK(shared->Share(exchange, **stream, absl::Now() + absl::Minutes(1)));
      for (size_t i = 0; i < values.size(); ++i) {
        const double got = shared->Get(static_cast<int64_t>(i));
        EXPECT_EQ(got, values[i]);
        EXPECT_EQ(std::signbit(got), std::signbit(values[i]));
      }
      EXPECT_EQ(shared->Sum(5, 6), 7.0);
      shared->Clear();
      EXPECT_EQ(shared->Get(1), 0.0);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(ExchangeThreadTest, RunsTasksInOrderAndForgetsTheRestAfterAFailure) {
  ExchangeThread thread;
  std::vector<int> ran;
  thread.Post([&] {
    ran.push_back(1);
    return absl::OkStatus();
  });
  thread.Post([&] {
    ran.push_back(2);
    return absl::UnavailableError("gone");
  });
  thread.Post([&] {
    ran.push_back(3);
    return absl::OkStatus();
  });
  EXPECT_THAT(thread.Drain(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(ran, ::testing::ElementsAre(1, 2));
  EXPECT_THAT(thread.Drain(), IsOk());  // the failure was told once
  thread.Post([&] {
    ran.push_back(4);
    return absl::OkStatus();
  });
  EXPECT_THAT(thread.Drain(), IsOk());
  EXPECT_THAT(ran, ::testing::ElementsAre(1, 2, 4));
}

class SettableClock final : public Clock {
 public:
  [[nodiscard]] absl::Time Now() const override { return now; }
  absl::Time now = absl::UnixEpoch();
};

TEST(TimeLedgerTest, PartsAddUpToTheWhole) {
  SettableClock clock;
  TimeLedger ledger(clock, TimeCause::kRestore);
  clock.now += absl::Seconds(3);
  EXPECT_EQ(ledger.Switch(TimeCause::kCompute), TimeCause::kRestore);
  clock.now += absl::Seconds(5);
  const TimeCause before = ledger.Switch(TimeCause::kExchange);
  clock.now += absl::Seconds(2);
  ledger.Switch(before);
  clock.now += absl::Seconds(1);
  const TimeByCause time = ledger.Take();
  EXPECT_EQ(time[TimeCause::kRestore], absl::Seconds(3));
  EXPECT_EQ(time[TimeCause::kCompute], absl::Seconds(6));
  EXPECT_EQ(time[TimeCause::kExchange], absl::Seconds(2));
  EXPECT_EQ(time.Total(), absl::Seconds(11));
  EXPECT_EQ(ledger.Take().Total(), absl::ZeroDuration());
}

TrainConfig Valid() {
  TrainConfig config;
  config.model.layers = {DeltaMixerConfig{.heads = 2}, SoftmaxMixerConfig{}};
  config.steps = 10;
  config.learning_rate.total_steps = 10;
  return config;
}

TEST(TrainConfigTest, NamesAllProblemsAtOnce) {
  EXPECT_THAT(Validate(Valid()), IsOk());
  TrainConfig config = Valid();
  config.batch.shards = 3;
  config.optimizer.beta2 = 1.0;
  config.clip_norm = -1;
  config.model.layers[0] = DeltaMixerConfig{.heads = 7};
  const absl::Status status = Validate(config);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("shards is 3")));
  EXPECT_THAT(status.message(), HasSubstr("betas"));
  EXPECT_THAT(status.message(), HasSubstr("clip_norm"));
  EXPECT_THAT(status.message(), HasSubstr("layers[0].heads is 7"));
}

TEST(TrainConfigTest, FingerprintChangesWithWhatDecidesTheBitsAndNothingElse) {
  const std::string base = Fingerprint(Valid());
  EXPECT_EQ(base, Fingerprint(Valid()));
  TrainConfig config = Valid();
  config.evaluation.every_steps = 1;
  config.checkpoint.every_steps = 1;
  EXPECT_EQ(Fingerprint(config), base);
  config = Valid();
  config.seed = 1;
  EXPECT_NE(Fingerprint(config), base);
  config = Valid();
  config.learning_rate.peak = std::nextafter(config.learning_rate.peak, 1.0);
  EXPECT_NE(Fingerprint(config), base);
  config = Valid();
  config.learning_rate.initial_ratio = 0.04;
  EXPECT_NE(Fingerprint(config), base);
  config = Valid();
  config.learning_rate.hold_steps = 5;
  EXPECT_NE(Fingerprint(config), base);
  config = Valid();
  config.optimizer.beta1_at_peak = 0.85;
  EXPECT_NE(Fingerprint(config), base);
  config = Valid();
  config.model.layers[1] = SoftmaxMixerConfig{.window = 8};
  EXPECT_NE(Fingerprint(config), base);
  config = Valid();
  config.model.layers[0] = DeltaMixerConfig{.heads = 2, .output_gate = true};
  EXPECT_NE(Fingerprint(config), base);
}

}  // namespace
}  // namespace weft::worker
