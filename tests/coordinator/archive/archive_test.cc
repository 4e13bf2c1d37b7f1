#include "coordinator/archive/archive.h"

#include "absl/synchronization/notification.h"
#include "common/time/real_event_loop.h"
#include "coordinator/archive/sqlite_step_history.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace weft::coordinator {
namespace {

using ::testing::Each;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing::StatusIs;

class ArchiveTest : public ::testing::Test {
 protected:
  ArchiveTest() {
    auto steps = SqliteStepHistory::Open((directory_.path() / "history.db").string(), {});
    EXPECT_OK(steps);
    steps_ = *std::move(steps);
    archive_ = std::make_unique<Archive>(loop_, archive_loop_, *steps_, logs_);
  }
  ~ArchiveTest() override {
    archive_loop_.Stop();
    loop_.Stop();
  }
  void OnLoop(absl::AnyInvocable<void()> task) {
    absl::Notification done;
    loop_.Post([&] {
      task();
      done.Notify();
    });
    done.WaitForNotification();
  }

  testing::TempDir directory_;
  std::unique_ptr<StepHistory> steps_;
  LogStore logs_{{.directory = directory_.path().string()}};
  std::unique_ptr<Archive> archive_;
  RealEventLoop loop_;
  RealEventLoop archive_loop_;
};

TEST_F(ArchiveTest, AReadSeesWhatWasAppendedBeforeIt) {
  absl::Notification done;
  absl::StatusOr<std::vector<v1::StepReport>> read;
  OnLoop([&] {
    v1::StepReport step;
    step.set_step(1);
    archive_->AppendSteps(JobId(1), {step},
                          [](const absl::StatusOr<bool>& kept) { EXPECT_OK(kept); });
    archive_->ReadSteps(JobId(1), 0, 10, 0, [&](absl::StatusOr<std::vector<v1::StepReport>> steps) {
      EXPECT_TRUE(loop_.InLoopThread());
      read = std::move(steps);
      done.Notify();
    });
  });
  done.WaitForNotification();
  ASSERT_OK(read);
  EXPECT_EQ(read->size(), 1U);
}

TEST_F(ArchiveTest, WhatWaitsWhenItStopsIsAnsweredAndNotDone) {
  absl::Notification disk_works;
  archive_loop_.Post([&] { disk_works.WaitForNotification(); });
  std::vector<absl::Status> answers;
  OnLoop([&] {
    v1::StepReport step;
    step.set_step(1);
    archive_->AppendSteps(JobId(1), {step}, [&](const absl::StatusOr<bool>& kept) {
      answers.push_back(kept.status());
    });
    archive_->ReadLogs(
        "demo-1", 0, std::nullopt, 100,
        [&](const absl::StatusOr<LogStore::Chunk>& chunk) { answers.push_back(chunk.status()); });
  });
  archive_->Stop();
  disk_works.Notify();
  archive_loop_.Stop();
  loop_.Stop();
  EXPECT_THAT(answers, Each(StatusIs(absl::StatusCode::kUnavailable)));
  EXPECT_THAT(answers, SizeIs(2));
  EXPECT_THAT(steps_->summaries(), IsEmpty());
}

TEST_F(ArchiveTest, RequestsThatASlowDiskCannotServeAreRefused) {
  absl::Notification disk_works;
  archive_loop_.Post([&] { disk_works.WaitForNotification(); });
  int refused = 0;
  int served = 0;
  absl::Notification done;
  OnLoop([&] {
    for (int i = 0; i < 5001; ++i) {
      archive_->ReadLogs("demo-1", 0, std::nullopt, 100,
                         [&](const absl::StatusOr<LogStore::Chunk>& chunk) {
                           if (absl::IsResourceExhausted(chunk.status())) ++refused;
                           if (chunk.ok() && ++served == 5000) done.Notify();
                         });
    }
  });
  OnLoop([&] { EXPECT_EQ(refused, 1); });
  disk_works.Notify();
  done.WaitForNotification();
  // Room again.
  absl::Notification again;
  OnLoop([&] {
    archive_->FindLogTail("demo-1", 5, std::nullopt, [&](const absl::StatusOr<int64_t>& position) {
      EXPECT_OK(position);
      again.Notify();
    });
  });
  again.WaitForNotification();
}

}  // namespace
}  // namespace weft::coordinator
