#include <grpcpp/create_channel.h>

#include <algorithm>

#include "absl/time/clock.h"
#include "coordinator/service/log_stream.h"
#include "coordinator/service/watch_stream.h"
#include "tests/coordinator/service/service_fixture.h"

namespace weft::coordinator::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using weft::testing::StatusIs;

class JobStreamsTest : public ServiceTest {
 protected:
  struct Watch {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::WatchJobResponse>> reader;
  };
  std::unique_ptr<Watch> Follow(const std::string& name, int64_t after_step) {
    return Follow(*jobs_, name, after_step);
  }
  static std::unique_ptr<Watch> Follow(v1::JobService::Stub& jobs, const std::string& name,
                                       int64_t after_step) {
    auto watch = std::make_unique<Watch>();
    SetTimeout(watch->context, absl::Seconds(30));
    v1::WatchJobRequest request;
    request.set_name(name);
    request.set_after_step(after_step);
    watch->reader = jobs.WatchJob(&watch->context, request);
    return watch;
  }

  struct Seen {
    std::vector<int64_t> steps;
    v1::Job::State state = v1::Job::STATE_UNSPECIFIED;
    absl::Status status;
  };
  static Seen ReadToTheEnd(Watch& watch) {
    Seen seen;
    v1::WatchJobResponse response;
    while (watch.reader->Read(&response)) {
      for (const v1::StepReport& step : response.steps()) seen.steps.push_back(step.step());
      seen.state = response.job().state();
    }
    seen.status = FromGrpc(watch.reader->Finish());
    return seen;
  }

  struct Tail {
    std::vector<std::string> lines;
    absl::Status status;
  };
  Tail ReadLogs(const v1::TailLogsRequest& request) {
    grpc::ClientContext context;
    SetTimeout(context, absl::Seconds(30));
    const auto reader = jobs_->TailLogs(&context, request);
    Tail tail;
    v1::LogLine line;
    while (reader->Read(&line)) tail.lines.push_back(line.text());
    tail.status = FromGrpc(reader->Finish());
    return tail;
  }

  static std::vector<int64_t> Numbers(int64_t first, int64_t last) {
    std::vector<int64_t> numbers;
    for (int64_t i = first; i <= last; ++i) numbers.push_back(i);
    return numbers;
  }
};

TEST_F(JobStreamsTest, WatchSendsTheKeptStepsThenTheNewOnesUntilTheJobEnds) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  worker->SendSteps(start, 1, 1200);  // more than one message may hold
  // From here on they are history: steps that waited for a slow reader would be thinned.
  ASSERT_OK(AwaitStep(start.job(), 1200));
  const auto watch = Follow(start.job(), 0);
  v1::WatchJobResponse response;
  ASSERT_TRUE(watch->reader->Read(&response));
  EXPECT_EQ(response.job().name(), start.job());
  worker->SendSteps(start, 1201, 1210);
  Finish(*worker, start);
  Seen seen = ReadToTheEnd(*watch);
  for (const v1::StepReport& step : response.steps()) {
    seen.steps.insert(seen.steps.begin(), step.step());
  }
  EXPECT_OK(seen.status);
  EXPECT_EQ(seen.state, v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(seen.steps, Numbers(1, 1210));
  // Once more, when all is over.
  EXPECT_EQ(ReadToTheEnd(*Follow(start.job(), 1200)).steps, Numbers(1201, 1210));
  EXPECT_THAT(ReadToTheEnd(*Follow(start.job(), -1)).steps, IsEmpty());
}

TEST_F(JobStreamsTest, WatchOfAPausedJobGoesOn) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  const auto watch = Follow(start.job(), -1);
  v1::PauseJobRequest pause;
  pause.set_name(start.job());
  ASSERT_OK(Call(&v1::JobService::Stub::PauseJob, *jobs_, pause));
  Finish(*worker, start, v1::MemberExit::OUTCOME_SAVED);
  ASSERT_OK(AwaitState(start.job(), v1::Job::STATE_PAUSED));
  ASSERT_OK(Cancel(start.job()));
  const Seen seen = ReadToTheEnd(*watch);
  EXPECT_OK(seen.status);
  EXPECT_EQ(seen.state, v1::Job::STATE_CANCELLED);
}

TEST_F(JobStreamsTest, WatchOfAnUnknownJobOrStepIsAnError) {
  EXPECT_THAT(ReadToTheEnd(*Follow("jobs/demo-1", 0)).status,
              StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(Create(SpecOf("demo")));
  EXPECT_THAT(ReadToTheEnd(*Follow("jobs/demo-1", -2)).status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("after_step")));
}

// The client that does not read fills its window and then its queue; the coordinator, the other
// watcher and the worker go on, and the slow one still learns how it ended.
TEST_F(JobStreamsTest, ASlowWatcherLosesStepsAndDisturbsNobody) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  grpc::ChannelArguments arguments;  // by default gRPC itself would hold megabytes for the client
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 4096);
  const auto narrow = v1::JobService::NewStub(
      grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(), arguments));
  const auto slow = Follow(*narrow, start.job(), -1);
  const auto quick = Follow(start.job(), -1);
  v1::WatchJobResponse response;
  ASSERT_TRUE(slow->reader->Read(&response));
  ASSERT_TRUE(quick->reader->Read(&response));
  constexpr int64_t kSteps = 30000;
  for (int64_t i = 1; i <= kSteps; i += 100) {
    worker->SendSteps(start, i, i + 99);
    while (response.steps().empty() || response.steps().rbegin()->step() < i + 99) {
      ASSERT_TRUE(quick->reader->Read(&response));
    }
  }
  Finish(*worker, start);
  EXPECT_OK(ReadToTheEnd(*quick).status);
  const Seen seen = ReadToTheEnd(*slow);
  EXPECT_OK(seen.status);
  EXPECT_EQ(seen.state, v1::Job::STATE_SUCCEEDED);
  EXPECT_LT(seen.steps.size(), static_cast<size_t>(kSteps));
  EXPECT_EQ(seen.steps.back(), kSteps);
  EXPECT_TRUE(std::is_sorted(seen.steps.begin(), seen.steps.end()));
}

TEST_F(JobStreamsTest, LogsAreFollowedToTheEndAndKeptAfterIt) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  worker->SendLogs(start.job(), 0, {"one", "two"});
  const auto stored = worker->Await(v1::CoordinatorMessage::kLogsStored);
  ASSERT_TRUE(stored.has_value());
  EXPECT_EQ(stored->logs_stored().next(), 2);
  v1::TailLogsRequest request;
  request.set_name(start.job());
  request.set_follow(true);
  grpc::ClientContext context;
  SetTimeout(context, absl::Seconds(30));
  const auto reader = jobs_->TailLogs(&context, request);
  v1::LogLine line;
  ASSERT_TRUE(reader->Read(&line));
  ASSERT_TRUE(reader->Read(&line));
  EXPECT_EQ(line.text(), "two");
  EXPECT_EQ(line.worker(), "w1");
  worker->SendLogs(start.job(), 1, {"two", "three"});  // one of them once more
  ASSERT_TRUE(reader->Read(&line));
  EXPECT_EQ(line.text(), "three");
  Finish(*worker, start);
  EXPECT_FALSE(reader->Read(&line));
  EXPECT_OK(FromGrpc(reader->Finish()));
  RestartServer();
  request.set_tail_lines(2);
  EXPECT_THAT(ReadLogs(request).lines, ElementsAre("two", "three"));
  request.set_rank(5);
  EXPECT_THAT(ReadLogs(request).lines, IsEmpty());
  request.set_tail_lines(-1);
  EXPECT_THAT(ReadLogs(request).status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tail_lines")));
}

TEST_F(JobStreamsTest, LogsGoOnBehindALineThatWasRead) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  worker->SendLogs(start.job(), 0, {"one", "two", "three"});
  ASSERT_TRUE(worker->Await(v1::CoordinatorMessage::kLogsStored).has_value());
  v1::TailLogsRequest request;
  request.set_name(start.job());
  grpc::ClientContext context;
  SetTimeout(context, absl::Seconds(30));
  const auto reader = jobs_->TailLogs(&context, request);
  v1::LogLine line;
  ASSERT_TRUE(reader->Read(&line));
  request.set_position(line.next_position());
  request.set_tail_lines(1);  // counts only where nothing was read
  RestartServer();
  EXPECT_THAT(ReadLogs(request).lines, ElementsAre("two", "three"));
  request.set_position(-1);
  EXPECT_THAT(ReadLogs(request).status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("position")));
}

TEST_F(JobStreamsTest, TheStreamsEndSoonWhenTheServerStops) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  const auto watch = Follow(start.job(), -1);
  v1::WatchJobResponse response;
  ASSERT_TRUE(watch->reader->Read(&response));
  v1::TailLogsRequest request;
  request.set_name(start.job());
  request.set_follow(true);
  grpc::ClientContext context;
  SetTimeout(context, absl::Seconds(30));
  const auto logs = jobs_->TailLogs(&context, request);
  worker->SendLogs(start.job(), 0, {"a line"});
  v1::LogLine line;
  ASSERT_TRUE(logs->Read(&line));
  const absl::Time before = absl::Now();
  server_->Stop();
  EXPECT_LT(absl::Now() - before,
            absl::Seconds(2));  // less than the grace: nothing had to be cancelled
  EXPECT_THAT(ReadToTheEnd(*watch).status,
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("stopping")));
  EXPECT_FALSE(logs->Read(&line));
  EXPECT_THAT(FromGrpc(logs->Finish()), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(worker->AwaitEnd(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Get(start.job()), StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace weft::coordinator::testing
