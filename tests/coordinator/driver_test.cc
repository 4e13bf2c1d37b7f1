#include "coordinator/driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/store/memory_job_store.h"
#include "tests/coordinator/core/test_cluster.h"

namespace weft::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::weft::testing::IsOkAndHolds;
using ::weft::testing::StatusIs;

// A loop that runs what was posted when the test says so.
class ManualLoop final : public EventLoop, public Clock {
 public:
  void Post(absl::AnyInvocable<void()> task) override { tasks_.push_back(std::move(task)); }
  TimerId RunAt(absl::Time when, absl::AnyInvocable<void()> task) override {
    last_ = last_.Next();
    timers_.emplace(std::make_pair(when, last_), std::move(task));
    return last_;
  }
  void Cancel(TimerId timer) override {
    std::erase_if(timers_, [&](const auto& entry) { return entry.first.second == timer; });
  }
  [[nodiscard]] bool InLoopThread() const override { return true; }
  [[nodiscard]] const Clock& clock() const override { return *this; }
  [[nodiscard]] absl::Time Now() const override { return now_; }

  // Runs all that is posted, also what that posts.
  void RunAll() {
    while (!tasks_.empty()) {
      absl::AnyInvocable<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      task();
    }
  }
  void Pass(absl::Duration time) {
    const absl::Time end = now_ + time;
    while (!timers_.empty() && timers_.begin()->first.first <= end) {
      now_ = std::max(now_, timers_.begin()->first.first);
      absl::AnyInvocable<void()> task = std::move(timers_.begin()->second);
      timers_.erase(timers_.begin());
      task();
      RunAll();
    }
    now_ = end;
  }
  // As if the process were stopped: what becomes due meanwhile is late.
  void Stand(absl::Duration time) { now_ += time; }
  [[nodiscard]] size_t posted() const { return tasks_.size(); }

 private:
  std::deque<absl::AnyInvocable<void()>> tasks_;
  std::map<std::pair<absl::Time, TimerId>, absl::AnyInvocable<void()>> timers_;
  TimerId last_;
  absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);
};

// Counts commits, and refuses the next ones when told to.
class CountingStore final : public JobStore {
 public:
  absl::StatusOr<StoredCluster> Load() override { return real_.Load(); }
  absl::StatusOr<StoreVersion> Commit(StoreVersion expected,
                                      absl::Span<const Fact> facts) override {
    ++commits;
    if (!refuse.ok()) return refuse;
    return real_.Commit(expected, facts);
  }
  int commits = 0;
  absl::Status refuse;

 private:
  MemoryJobStore real_;
};

class DriverTest : public ::testing::Test, public WorkerLink, public DriverObserver {
 protected:
  DriverTest() : driver_(loop_, store_loop_, store_, *this, this, Options()) {
    driver_.Start(*store_.Load());
  }
  static Driver::Options Options() {
    Driver::Options options;
    options.policy.gather_time = absl::ZeroDuration();
    options.max_pending = 10;
    return options;
  }
  void Send(const Command& command) override { sent_.emplace_back(CommandName(command)); }
  void OnFacts(absl::Span<const Fact> facts, const ClusterState& state) override {
    EXPECT_OK(CheckInvariants(state));
    for (const Fact& fact : facts) facts_.emplace_back(FactName(fact));
  }
  void OnCommit(const absl::Status&, int64_t, absl::Duration) override {}
  void OnSteppedDown(const absl::Status& why) override { stepped_down_ = why; }

  void Submit(const std::string& name) {
    driver_.Handle(JobSubmitted{CpuJob(name)},
                   [this](absl::StatusOr<JobId> reply) { replies_.push_back(std::move(reply)); });
  }
  // Both threads do what they have to.
  void Settle() {
    while (loop_.posted() + store_loop_.posted() > 0) {
      loop_.RunAll();
      store_loop_.RunAll();
    }
  }

  ManualLoop loop_;
  ManualLoop store_loop_;
  CountingStore store_;
  Driver driver_;
  std::vector<absl::StatusOr<JobId>> replies_;
  std::vector<std::string> sent_;
  std::vector<std::string> facts_;
  absl::Status stepped_down_;
};

TEST_F(DriverTest, NobodyHearsOfAFactBeforeItIsStored) {
  driver_.Handle(WorkerJoined{"a", "first", CpuWorker(), {}});
  Settle();
  facts_.clear();
  Submit("job");
  loop_.RunAll();
  EXPECT_THAT(replies_, IsEmpty());
  EXPECT_THAT(sent_, IsEmpty());
  EXPECT_THAT(facts_, IsEmpty());
  EXPECT_TRUE(driver_.state().jobs.empty());
  Settle();
  EXPECT_THAT(replies_, ElementsAre(IsOkAndHolds(JobId(1))));
  EXPECT_THAT(sent_, ElementsAre("StartMember"));
  EXPECT_THAT(facts_, ElementsAre("JobAdded", "GangPlaced"));
  EXPECT_EQ(driver_.state().jobs.size(), 1U);
}

TEST_F(DriverTest, EventsThatComeDuringACommitShareTheNextOne) {
  for (int i = 0; i < 8; ++i) Submit("job");
  Settle();
  EXPECT_THAT(replies_, SizeIs(8));
  EXPECT_EQ(store_.commits, 2);
}

TEST_F(DriverTest, EventsWithNothingToStoreDoNotCommit) {
  driver_.Handle(WorkerJoined{"a", "first", CpuWorker(), {}});
  Settle();
  const int before = store_.commits;
  driver_.Handle(Heartbeat{"a", "first", 1, {}});
  Settle();
  EXPECT_EQ(store_.commits, before);
  EXPECT_EQ(driver_.state().FindWorker("a")->sequence, 1);
}

TEST_F(DriverTest, AFullDiskRefusesTheRequestsAndNothingElseIsLost) {
  Submit("stored");
  Settle();
  store_.refuse = absl::ResourceExhaustedError("the disk is full");
  Submit("refused");
  Submit("refused as well");
  Settle();
  EXPECT_THAT(replies_[1], StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("disk")));
  EXPECT_THAT(replies_[2], StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(driver_.state().jobs.size(), 1U);
  EXPECT_FALSE(driver_.stepped_down());
  store_.refuse = absl::OkStatus();
  Submit("again");
  Settle();
  EXPECT_THAT(replies_[3], IsOkAndHolds(JobId(2)));
}

TEST_F(DriverTest, WorkersThatWereHeardWhileTheDiskWasFullAreNotLostWhenItHasRoomAgain) {
  driver_.Handle(WorkerJoined{"a", "first", CpuWorker(), {}});
  Submit("job");
  Settle();
  const std::vector<MemberReport> running = {
      {JobId(1), Generation(1), MemberPhase::kTraining, StepIndex(1), 1}};
  int64_t beats = 0;
  const auto a_second_passes = [&] {
    driver_.Handle(Heartbeat{"a", "first", ++beats, running});
    Settle();
    loop_.Pass(absl::Seconds(1));
    Settle();
  };
  a_second_passes();
  store_.refuse = absl::ResourceExhaustedError("the disk is full");
  for (int i = 0; i < 10; ++i) {
    Submit("refused");
    a_second_passes();
  }
  store_.refuse = absl::OkStatus();
  loop_.Pass(absl::Seconds(1));  // deadlines are looked at before the worker speaks again
  Settle();
  for (int i = 0; i < 10; ++i) a_second_passes();
  EXPECT_EQ(driver_.state().FindWorker("a")->connection, WorkerConnection::kConnected);
  EXPECT_EQ(driver_.state().FindJob(JobId(1))->state, JobState::kRunning);
  loop_.Pass(driver_.policy().heartbeat_timeout);
  Settle();
  EXPECT_EQ(driver_.state().FindWorker("a")->connection, WorkerConnection::kLost)
      << "then the usual rules hold again";
}

TEST_F(DriverTest, AnotherCoordinatorsCommitMakesThisOneStepDown) {
  store_.refuse = absl::AbortedError("another coordinator writes to it");
  Submit("job");
  Settle();
  EXPECT_TRUE(driver_.stepped_down());
  EXPECT_THAT(stepped_down_, StatusIs(absl::StatusCode::kAborted));
  // Not kAborted: that would mean that nobody wants to know.
  EXPECT_THAT(replies_[0], StatusIs(absl::StatusCode::kUnavailable, HasSubstr("another")));
  Submit("late");
  EXPECT_THAT(replies_[1], StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(DriverTest, LostLeadershipEndsItAtOnceAlsoDuringACommit) {
  Settle();
  facts_.clear();
  Submit("job");
  loop_.RunAll();
  driver_.StepDown(absl::AbortedError("another coordinator may lead by now"));
  ASSERT_THAT(replies_, SizeIs(1));
  EXPECT_THAT(replies_[0], StatusIs(absl::StatusCode::kUnavailable, HasSubstr("may lead by now")));
  EXPECT_THAT(stepped_down_, StatusIs(absl::StatusCode::kAborted));
  Settle();
  EXPECT_THAT(replies_, SizeIs(1));
  EXPECT_THAT(facts_, IsEmpty()) << "nobody hears of what another may not know";
  driver_.StepDown(absl::InternalError("again"));
  EXPECT_THAT(stepped_down_, StatusIs(absl::StatusCode::kAborted));
}

TEST_F(DriverTest, TooMuchAtOnceIsRefusedInsteadOfQueuedForEver) {
  for (int i = 0; i < 12; ++i) Submit("job");
  EXPECT_THAT(replies_, SizeIs(2));
  EXPECT_THAT(replies_[0], StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("limit")));
  Settle();
  EXPECT_THAT(replies_, SizeIs(12));
}

TEST_F(DriverTest, DeadlinesWakeTheCoreUp) {
  driver_.Handle(WorkerJoined{"a", "first", CpuWorker(), {}});
  Settle();
  loop_.Pass(driver_.policy().heartbeat_timeout + absl::Seconds(1));
  Settle();
  EXPECT_EQ(driver_.state().FindWorker("a")->connection, WorkerConnection::kLost);
}

TEST_F(DriverTest, AnEventThatComesBeforeALateTimerDoesNotHideThatItIsLate) {
  driver_.Handle(WorkerJoined{"a", "first", CpuWorker(), {}});
  driver_.Handle(WorkerJoined{"b", "first", CpuWorker(), {}});
  Settle();
  loop_.Stand(driver_.policy().heartbeat_timeout + absl::Milliseconds(500));
  driver_.Handle(Heartbeat{"a", "first", 1, {}});
  Settle();
  loop_.Pass(absl::ZeroDuration());
  Settle();
  EXPECT_EQ(driver_.state().FindWorker("b")->connection, WorkerConnection::kConnected);
}

TEST_F(DriverTest, AReplyMayAskForMore) {
  driver_.Handle(JobSubmitted{CpuJob("first")},
                 [this](absl::StatusOr<JobId>) { Submit("second"); });
  Settle();
  EXPECT_THAT(replies_, ElementsAre(IsOkAndHolds(JobId(2))));
}

}  // namespace
}  // namespace weft::coordinator
