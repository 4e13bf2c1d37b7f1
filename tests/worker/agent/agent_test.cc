// The whole agent in one process: real gRPC, real child processes (fakes/fake_rank.cc), and a
// coordinator that does what the test says.
#include "worker/agent/agent.h"

#include <gmock/gmock.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <optional>

#include "absl/strings/match.h"
#include "tests/testing/await.h"
#include "tests/testing/status_matchers.h"
#include "tests/worker/agent/agent_harness.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::SizeIs;
using weft::testing::IsOk;
using weft::testing::StatusIs;

class AgentTest : public AgentHarness {
 protected:
  // The first process of this test's ranks whose command line names the job.
  static pid_t RankOf(const std::string& name) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      std::ifstream file(entry.path() / "cmdline");
      std::string line;
      std::getline(file, line, '\0');
      if (absl::StrContains(line, absl::StrCat("weft-rank ", JobOf(name), " "))) {
        return std::stoi(entry.path().filename().string());
      }
    }
    return 0;
  }
  [[nodiscard]] bool AwaitMetrics(const std::function<bool(const std::string&)>& condition) {
    return weft::testing::Await([&] { return condition(metrics_.Text()); }, absl::Seconds(30));
  }
};

TEST_F(AgentTest, IntroducesItself) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  const v1::Hello hello = coordinator_.messages(kWorker).front().hello();
  EXPECT_EQ(hello.protocol_version(), kProtocolVersion);
  EXPECT_EQ(hello.devices_size(), 2);
  EXPECT_EQ(hello.devices(0).device_class(), "cpu-test");
  EXPECT_EQ(hello.peer_address(), agent->peer_address());
  EXPECT_THAT(agent->Ready(), IsOk());
}

TEST_F(AgentTest, RunsAJobAndTellsStepsCheckpointLogAndEnd) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("train-1", 1, 20, 2));
  ASSERT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_SUCCEEDED));
  const auto messages = coordinator_.messages(kWorker);
  const v1::MemberExit exit = ExitOf(messages, JobOf("train-1"));
  EXPECT_EQ(exit.step(), 20);
  EXPECT_EQ(exit.weights_hash(), "hash");
  // All steps were told, in order, before the end.
  std::vector<int64_t> steps = StepsOf(messages, JobOf("train-1"));
  ASSERT_THAT(steps, SizeIs(20));
  EXPECT_TRUE(std::is_sorted(steps.begin(), steps.end()));
  const auto position = [&messages](const auto& is) {
    return std::find_if(messages.begin(), messages.end(), is) - messages.begin();
  };
  const auto checkpoint = position([](const auto& message) { return message.has_checkpoint(); });
  ASSERT_LT(checkpoint, position([](const auto& message) { return message.has_exit(); }));
  EXPECT_EQ(messages[static_cast<size_t>(checkpoint)].checkpoint().checkpoint().path(),
            "/checkpoints");
  EXPECT_EQ(messages[static_cast<size_t>(checkpoint)].checkpoint().checkpoint().generation(), 1);
  ASSERT_TRUE(coordinator_.AwaitLog(JobOf("train-1"), 2));
  EXPECT_THAT(coordinator_.log(JobOf("train-1")), Contains("rank 1 of 2 of generation 1"));
}

TEST_F(AgentTest, MeasuresItsRanksAndDevicesAndForgetsThemWithTheMember) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("hang-1", 1, 1000, 2));
  EXPECT_TRUE(AwaitMetrics([](const std::string& text) {
    return absl::StrContains(text, "weft_rank_step{job_name=\"hang-1\",rank=\"0\"} 2\n") &&
           absl::StrContains(text, "weft_rank_step{job_name=\"hang-1\",rank=\"1\"} 2\n") &&
           absl::StrContains(text, "weft_worker_ranks 2\n") &&
           !absl::StrContains(text,
                              "weft_device_memory_used_bytes{device=\"1\",kind=\"cpu\"} 0\n") &&
           absl::StrContains(text, "weft_device_utilization_ratio{device=\"1\",kind=\"cpu\"}");
  })) << metrics_.Text();
  EXPECT_THAT(metrics_.Text(),
              AllOf(HasSubstr("weft_worker_info{worker=\"a\"} 1\n"),
                    HasSubstr("weft_rank_steps_total{job_name=\"hang-1\",rank=\"1\"} 2\n"),
                    HasSubstr("weft_rank_time_seconds_total{job_name=\"hang-1\",rank=\"1\",cause="
                              "\"compute\"} 0.5\n"),
                    HasSubstr("weft_rank_time_seconds_total{job_name=\"hang-1\",rank=\"0\",cause="
                              "\"exchange\"} 1\n"),
                    HasSubstr("weft_device_memory_bytes{device=\"0\",kind=\"cpu\"}")));
  coordinator_.Send(kWorker, StopOrder("hang-1", 1, v1::StopMember::MODE_KILL));
  ASSERT_TRUE(AwaitExit("hang-1", 1, v1::MemberExit::OUTCOME_KILLED));
  EXPECT_TRUE(AwaitMetrics([](const std::string& text) {
    return !absl::StrContains(text, "job_name=\"hang-1\"");
  })) << metrics_.Text();
}

TEST_F(AgentTest, AnExitComesAgainUntilItIsAcknowledgedAlsoOverANewConnection) {
  coordinator_.set_acknowledges(false);
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("train-1", 1, 1));
  ASSERT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_SUCCEEDED));
  coordinator_.Disconnect();
  coordinator_.Clear();
  ASSERT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_SUCCEEDED));
  const v1::Hello hello = coordinator_.messages(kWorker).front().hello();
  EXPECT_EQ(hello.running_size(), 0);
  ASSERT_EQ(hello.ended_size(), 1);
  EXPECT_EQ(hello.ended(0).job(), JobOf("train-1"));
  coordinator_.set_acknowledges(true);
  ASSERT_TRUE(coordinator_.Await(kWorker, [](const auto& messages) {
    return messages.back().has_heartbeat() && messages.back().heartbeat().ended_size() == 0;
  }));
}

TEST_F(AgentTest, RanksTrainOnWithoutTheCoordinatorAndAreAdoptedByTheNextOne) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("train-1", 1, 1000000));
  ASSERT_TRUE(AwaitPhase("train-1", v1::MemberStatus::PHASE_TRAINING));
  const pid_t rank = RankOf("train-1");
  ASSERT_GT(rank, 0);
  coordinator_.Disconnect();
  coordinator_.Clear();
  ASSERT_TRUE(AwaitPhase("train-1", v1::MemberStatus::PHASE_TRAINING));
  const v1::Hello hello = coordinator_.messages(kWorker).front().hello();
  ASSERT_EQ(hello.running_size(), 1);
  EXPECT_EQ(hello.running(0).phase(), v1::MemberStatus::PHASE_TRAINING);
  EXPECT_GT(hello.running(0).step(), 0);
  EXPECT_EQ(RankOf("train-1"), rank) << "the same process";
}

TEST_F(AgentTest, StaysWithTheNewLeaderThoughTheFormerOneKeepsItsConnection) {
  const auto hellos = [](const FakeCoordinator::Messages& messages) {
    return std::count_if(messages.begin(), messages.end(),
                         [](const v1::WorkerMessage& message) { return message.has_hello(); });
  };
  const std::string next = absl::StrCat("unix:", (home_.path() / "next").string());
  std::optional<FakeCoordinator> leader;
  AgentOptions options = Options(kWorker);
  options.coordinator = [&] { return absl::StrCat(coordinator_.address(), ",", next); };
  const auto agent = Agent::Start(std::move(options), metrics_);
  ASSERT_THAT(agent, IsOk());
  ASSERT_TRUE(AwaitConnected());
  leader.emplace(next);
  ASSERT_TRUE(leader->Await(kWorker, [](const auto& messages) { return messages.size() > 20; }));
  EXPECT_EQ(hellos(leader->messages(kWorker)), 1);
  EXPECT_EQ(hellos(coordinator_.messages(kWorker)), 1);
}

TEST_F(AgentTest, StepsTakenWhileTheCoordinatorIsAwayAreToldLater) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("train-1", 1, 60));
  ASSERT_TRUE(AwaitPhase("train-1", v1::MemberStatus::PHASE_TRAINING));
  coordinator_.Disconnect(/*keep_away=*/true);
  coordinator_.Disconnect(/*keep_away=*/false);
  ASSERT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_SUCCEEDED));
  std::vector<int64_t> all(60);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i) + 1;
  EXPECT_THAT(StepsOf(coordinator_.messages(kWorker), JobOf("train-1")), IsSupersetOf(all));
}

// A coordinator that dies has heard of more than it has stored.
TEST_F(AgentTest, StepsThatWereNotStoredAreToldToTheNextCoordinator) {
  coordinator_.set_stores_steps(false);
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  constexpr int steps = 300;
  coordinator_.Send(kWorker, StartOrder("train-1", 1, steps));
  ASSERT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_SUCCEEDED));
  std::vector<int64_t> all(steps);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i) + 1;
  const auto has_all = [&](const auto& messages) {
    return StepsOf(messages, JobOf("train-1")) == all;
  };
  ASSERT_TRUE(coordinator_.Await(kWorker, has_all));
  coordinator_.Clear();
  coordinator_.set_stores_steps(true);
  coordinator_.Disconnect();
  ASSERT_TRUE(coordinator_.Await(kWorker, has_all));
  // And what is stored is not told again.
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Clear();
  coordinator_.Disconnect();
  ASSERT_TRUE(AwaitConnected());
  EXPECT_THAT(StepsOf(coordinator_.messages(kWorker), JobOf("train-1")), IsEmpty());
}

TEST_F(AgentTest, SavesAndStopsWhenAsked) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("train-1", 1, 1000000, 2));
  ASSERT_TRUE(AwaitPhase("train-1", v1::MemberStatus::PHASE_TRAINING));
  coordinator_.Send(kWorker, StopOrder("train-1", 1, v1::StopMember::MODE_SAVE));
  EXPECT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_SAVED));
}

TEST_F(AgentTest, KillsWhenAskedWhatHeedsNoOrders) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("hang-1", 1, 1000));
  ASSERT_TRUE(AwaitPhase("hang-1", v1::MemberStatus::PHASE_TRAINING));
  coordinator_.Send(kWorker, StopOrder("hang-1", 1, v1::StopMember::MODE_KILL));
  ASSERT_TRUE(AwaitExit("hang-1", 1, v1::MemberExit::OUTCOME_KILLED));
  EXPECT_EQ(ExitOf(coordinator_.messages(kWorker), JobOf("hang-1")).message(), "the test wants it");
  EXPECT_EQ(RankOf("hang-1"), 0);
}

TEST_F(AgentTest, NamesTheSignalOfARankThatIsKilled) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("train-1", 1, 1000000, 2));
  ASSERT_TRUE(AwaitPhase("train-1", v1::MemberStatus::PHASE_TRAINING));
  ASSERT_EQ(kill(RankOf("train-1"), SIGKILL), 0);
  ASSERT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_FAILED));
  EXPECT_THAT(ExitOf(coordinator_.messages(kWorker), JobOf("train-1")).message(),
              HasSubstr("SIGKILL"));
  EXPECT_EQ(RankOf("train-1"), 0) << "the other rank is gone too";
}

TEST_F(AgentTest, TellsCrashesSilentEndsAndUserErrorsApart) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("crash-1", 1, 1000));
  coordinator_.Send(kWorker, StartOrder("quit-1", 1, 1000));
  coordinator_.Send(kWorker, StartOrder("bad-1", 1, 1000));
  ASSERT_TRUE(AwaitExit("crash-1", 1, v1::MemberExit::OUTCOME_FAILED));
  ASSERT_TRUE(AwaitExit("quit-1", 1, v1::MemberExit::OUTCOME_FAILED));
  ASSERT_TRUE(AwaitExit("bad-1", 1, v1::MemberExit::OUTCOME_USER_ERROR));
  const auto messages = coordinator_.messages(kWorker);
  EXPECT_EQ(ExitOf(messages, JobOf("crash-1")).message(), "rank 0 was killed by SIGABRT");
  EXPECT_EQ(ExitOf(messages, JobOf("quit-1")).message(), "rank 0 ended with status 3");
  EXPECT_EQ(ExitOf(messages, JobOf("bad-1")).message(), "the text is empty");
}

TEST_F(AgentTest, ANewGenerationReplacesTheOldOne) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("train-1", 1, 1000000));
  ASSERT_TRUE(AwaitPhase("train-1", v1::MemberStatus::PHASE_TRAINING));
  coordinator_.Send(kWorker, StartOrder("train-1", 2, 5));
  coordinator_.Send(kWorker, StartOrder("train-1", 1, 1000000));
  EXPECT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_KILLED));
  EXPECT_TRUE(AwaitExit("train-1", 2, v1::MemberExit::OUTCOME_SUCCEEDED));
}

TEST_F(AgentTest, ARankThatCannotBeStartedIsAFailureWithItsReason) {
  std::filesystem::remove(home_.path() / "bin" / "weft-rank");
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("train-1", 1, 5));
  ASSERT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_FAILED));
  EXPECT_THAT(ExitOf(coordinator_.messages(kWorker), JobOf("train-1")).message(),
              HasSubstr("weft-rank"));
}

TEST_F(AgentTest, ADeviceThatIsNotThereIsNamed) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  v1::CoordinatorMessage start = StartOrder("train-1", 1, 5);
  start.mutable_start()->mutable_members(0)->mutable_ranks(0)->set_device_index(7);
  coordinator_.Send(kWorker, start);
  ASSERT_TRUE(AwaitExit("train-1", 1, v1::MemberExit::OUTCOME_FAILED));
  EXPECT_THAT(ExitOf(coordinator_.messages(kWorker), JobOf("train-1")).message(),
              HasSubstr("no device 7"));
}

// --- logs ---------------------------------------------------------------------------------------

TEST_F(AgentTest, AllLinesArriveInOrderThroughLostConnections) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("spam-1", 1, 20000));
  ASSERT_TRUE(coordinator_.Await(kWorker, [](const auto& messages) {
    return std::any_of(messages.begin(), messages.end(),
                       [](const auto& message) { return message.has_logs(); });
  }));
  coordinator_.Disconnect();
  constexpr char last[] = "no line end, and a byte that is no text: \xEF\xBF\xBD";
  ASSERT_TRUE(coordinator_.AwaitLog(JobOf("spam-1"), 20002));
  const std::vector<std::string> lines = coordinator_.log(JobOf("spam-1"));
  ASSERT_THAT(lines, SizeIs(20002));
  EXPECT_THAT(lines, Contains(last));
  std::vector<std::string> numbered;
  for (const std::string& line : lines) {
    if (absl::StartsWith(line, "line ")) numbered.push_back(line);
  }
  ASSERT_THAT(numbered, SizeIs(20000));
  for (size_t i = 0; i < numbered.size(); ++i) ASSERT_EQ(numbered[i], absl::StrCat("line ", i));
}

// Who follows a job's log stops at the job's end.
TEST_F(AgentTest, WhatAMemberPrintedIsStoredBeforeItsEndIsTold) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("spam-1", 1, 20000));
  ASSERT_TRUE(AwaitExit("spam-1", 1, v1::MemberExit::OUTCOME_SUCCEEDED));
  int lines = 0;
  for (const v1::WorkerMessage& message : coordinator_.messages(kWorker)) {
    if (message.has_exit()) break;
    lines += message.logs().lines_size();
  }
  EXPECT_EQ(lines, 20002);
}

TEST_F(AgentTest, AnEndIsToldThoughItsLinesCannotBeStoredAndUntilThenItIsShownAsStopping) {
  coordinator_.set_stores_logs(false);
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("bad-1", 1, 5));
  ASSERT_TRUE(AwaitExit("bad-1", 1, v1::MemberExit::OUTCOME_USER_ERROR));
  bool started = false;
  for (const v1::WorkerMessage& message : coordinator_.messages(kWorker)) {
    if (message.has_exit()) break;
    if (!message.has_heartbeat()) continue;
    EXPECT_EQ(message.heartbeat().ended_size(), 0);
    started |= message.heartbeat().running_size() > 0;
    EXPECT_EQ(message.heartbeat().running_size(), started ? 1 : 0) << "it never seems to vanish";
  }
  EXPECT_TRUE(started);
}

// --- samples ------------------------------------------------------------------------------------

v1::CoordinatorMessage SampleOrder(int64_t id, const std::string& checkpoint) {
  v1::CoordinatorMessage message;
  message.mutable_run_sample()->set_id(id);
  message.mutable_run_sample()->set_checkpoint_path(checkpoint);
  message.mutable_run_sample()->mutable_request()->set_prompt("--once upon a time");
  message.mutable_run_sample()->mutable_request()->set_tokens(7);
  return message;
}

// The text of a sample and its last chunk, once that is there.
bool SampleDone(const FakeCoordinator::Messages& messages, int64_t id, std::string& text,
                v1::SampleChunk& last) {
  text.clear();
  for (const v1::WorkerMessage& message : messages) {
    if (message.sample().id() != id) continue;
    text += message.sample().text();
    last = message.sample();
  }
  return last.done();
}

TEST_F(AgentTest, StreamsASample) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, SampleOrder(1, "/checkpoints/x"));
  std::string text;
  v1::SampleChunk last;
  ASSERT_TRUE(coordinator_.Await(
      kWorker, [&](const auto& messages) { return SampleDone(messages, 1, text, last); }));
  EXPECT_EQ(last.error_code(), 0);
  EXPECT_THAT(text, HasSubstr("--checkpoint=/checkpoints/x\n"));
  EXPECT_THAT(text, HasSubstr("--prompt=--once upon a time\n"));
  EXPECT_THAT(text, HasSubstr("--tokens=7\n"));
}

TEST_F(AgentTest, ASampleThatFailsSaysWhy) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, SampleOrder(1, "missing"));
  std::string text;
  v1::SampleChunk last;
  ASSERT_TRUE(coordinator_.Await(
      kWorker, [&](const auto& messages) { return SampleDone(messages, 1, text, last); }));
  EXPECT_EQ(last.error_code(), static_cast<int>(absl::StatusCode::kNotFound));
  EXPECT_EQ(last.error(), "no checkpoint at missing");
}

TEST_F(AgentTest, ACancelledSampleEnds) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, SampleOrder(1, "endless"));
  std::string text;
  v1::SampleChunk last;
  ASSERT_TRUE(coordinator_.Await(kWorker, [&](const auto& messages) {
    SampleDone(messages, 1, text, last);
    return !text.empty();
  }));
  v1::CoordinatorMessage cancel;
  cancel.mutable_cancel_sample()->set_id(1);
  coordinator_.Send(kWorker, cancel);
  ASSERT_TRUE(coordinator_.Await(
      kWorker, [&](const auto& messages) { return SampleDone(messages, 1, text, last); }));
  EXPECT_EQ(last.error_code(), static_cast<int>(absl::StatusCode::kCancelled));
}

// --- the end ------------------------------------------------------------------------------------

TEST_F(AgentTest, ARefusalEndsItWithTheCoordinatorsWords) {
  coordinator_.set_refusal("protocol 1 is spoken here, not 2");
  const auto agent = StartAgent();
  EXPECT_THAT(agent->Wait(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                      HasSubstr("protocol 1 is spoken here")));
}

TEST_F(AgentTest, AShutdownSavesReportsAndEnds) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("train-1", 1, 1000000));
  ASSERT_TRUE(AwaitPhase("train-1", v1::MemberStatus::PHASE_TRAINING));
  agent->RequestShutdown(StopMode::kSave, absl::Seconds(60));
  EXPECT_THAT(agent->Wait(), IsOk());
  const auto messages = coordinator_.messages(kWorker);
  EXPECT_TRUE(HasExit(messages, JobOf("train-1"), 1, v1::MemberExit::OUTCOME_SAVED));
  EXPECT_THAT(messages, Contains(::testing::Property(&v1::WorkerMessage::has_checkpoint, true)));
  // It said that it leaves before it said what ended by that.
  const auto leaves = [](const v1::WorkerMessage& message) {
    return message.heartbeat().leaving();
  };
  const auto told = std::find_if(messages.begin(), messages.end(), leaves);
  ASSERT_NE(told, messages.end());
  EXPECT_FALSE(
      HasExit({messages.begin(), told}, JobOf("train-1"), 1, v1::MemberExit::OUTCOME_SAVED));
}

TEST_F(AgentTest, ASecondShutdownKills) {
  const auto agent = StartAgent();
  ASSERT_TRUE(AwaitConnected());
  coordinator_.Send(kWorker, StartOrder("hang-1", 1, 1000));
  ASSERT_TRUE(AwaitPhase("hang-1", v1::MemberStatus::PHASE_TRAINING));
  agent->RequestShutdown(StopMode::kSave, absl::Hours(1));
  agent->RequestShutdown(StopMode::kKill, absl::ZeroDuration());
  EXPECT_THAT(agent->Wait(), IsOk());
  EXPECT_EQ(RankOf("hang-1"), 0);
}

TEST_F(AgentTest, WithoutACoordinatorItTriesOnAndStillEndsWhenAsked) {
  AgentOptions options = Options(kWorker);
  std::atomic<int> attempts = 0;
  options.coordinator = [&attempts]() -> absl::StatusOr<std::string> {
    ++attempts;
    return absl::UnavailableError("nobody there");
  };
  auto agent = Agent::Start(std::move(options), metrics_);
  ASSERT_THAT(agent, IsOk());
  ASSERT_TRUE(weft::testing::Await([&] { return attempts >= 3; }));
  EXPECT_THAT((*agent)->Ready(), StatusIs(absl::StatusCode::kUnavailable));
  (*agent)->RequestShutdown(StopMode::kSave, absl::Seconds(30));
  EXPECT_THAT((*agent)->Wait(), IsOk());
}

}  // namespace
}  // namespace weft::worker
