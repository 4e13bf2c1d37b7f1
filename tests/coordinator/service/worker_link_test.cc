#include <atomic>

#include "coordinator/service/worker_link_service.h"
#include "tests/coordinator/service/service_fixture.h"
#include "tests/testing/await.h"

namespace weft::coordinator::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using weft::testing::StatusIs;

class WorkerLinkTest : public ServiceTest {
 protected:
  // What the coordinator says to a first message.
  absl::Status Refusal(const v1::Hello& hello) {
    FakeWorker worker(server_->address());
    worker.SendHello(hello);
    return worker.AwaitEnd();
  }
  // The numbers of the steps in the job's history.
  std::vector<int64_t> HistoryOf(const std::string& job) {
    v1::ListStepsRequest request;
    request.set_name(job);
    const auto page = Call(&v1::JobService::Stub::ListSteps, *jobs_, request);
    EXPECT_OK(page);
    std::vector<int64_t> numbers;
    for (const v1::StepReport& step : page->steps()) numbers.push_back(step.step());
    return numbers;
  }
  static std::vector<int64_t> Numbers(int64_t first, int64_t last) {
    std::vector<int64_t> numbers;
    for (int64_t i = first; i <= last; ++i) numbers.push_back(i);
    return numbers;
  }
  absl::StatusOr<v1::Worker> GetWorker(const std::string& name) {
    v1::GetWorkerRequest request;
    request.set_name(name);
    return Call(&v1::WorkerService::Stub::GetWorker, *workers_, request);
  }
};

TEST_F(WorkerLinkTest, AWorkerJoinsAndIsShown) {
  FakeWorker worker(server_->address());
  worker.SendHello(FakeWorker::HelloOf("w1"));
  const auto welcome = worker.Await(v1::CoordinatorMessage::kWelcome);
  ASSERT_TRUE(welcome.has_value());
  EXPECT_EQ(welcome->welcome().heartbeat_milliseconds(), 1000);
  EXPECT_FALSE(welcome->welcome().coordinator_incarnation().empty());
  ASSERT_OK_AND_ASSIGN(const v1::Worker shown, GetWorker("workers/w1"));
  EXPECT_EQ(shown.state(), v1::Worker::STATE_READY);
  EXPECT_EQ(shown.version(), "0.1.0-test");
  EXPECT_EQ(shown.address(), "127.0.0.1:1");
  ASSERT_EQ(shown.devices_size(), 1);
  EXPECT_EQ(shown.devices(0).device_class(), "cpu-test");
}

TEST_F(WorkerLinkTest, AWrongProtocolVersionIsRefusedWithBothVersions) {
  v1::Hello hello = FakeWorker::HelloOf("w1");
  hello.set_protocol_version(2);
  hello.set_version("9.9.9");
  EXPECT_THAT(Refusal(hello), StatusIs(absl::StatusCode::kFailedPrecondition,
                                       AllOf(HasSubstr("w1 (version 9.9.9) speaks link protocol 2"),
                                             HasSubstr("(version 0.1.0-test) speaks 1"),
                                             HasSubstr("update the coordinator"))));
  hello.set_protocol_version(0);
  EXPECT_THAT(Refusal(hello).message(), HasSubstr("update the worker"));
}

TEST_F(WorkerLinkTest, AHelloThatMakesNoSenseIsRefused) {
  const auto spoiled = [](auto spoil) {
    v1::Hello hello = FakeWorker::HelloOf("w1");
    spoil(hello);
    return hello;
  };
  const std::pair<v1::Hello, const char*> cases[] = {
      {spoiled([](v1::Hello& hello) { hello.set_worker("No Name"); }), "hello.worker"},
      {spoiled([](v1::Hello& hello) { hello.clear_incarnation(); }), "hello.incarnation"},
      {spoiled([](v1::Hello& hello) { hello.clear_devices(); }), "hello.devices"},
      {spoiled([](v1::Hello& hello) { hello.mutable_devices(0)->set_index(3); }), "index"},
      {spoiled([](v1::Hello& hello) { hello.mutable_devices(0)->clear_kind(); }), "kind"},
      {spoiled([](v1::Hello& hello) {
         *hello.add_devices() = hello.devices(0);
         hello.mutable_devices(1)->set_index(1);
         hello.mutable_devices(1)->set_device_class("other");
       }),
       "one kind and class"},
      {spoiled([](v1::Hello& hello) { hello.add_running()->set_job("nonsense"); }), "running.job"},
  };
  for (const auto& [hello, expected] : cases) {
    EXPECT_THAT(Refusal(hello), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(expected)));
  }
  FakeWorker silent(server_->address());
  silent.SendEmptyHeartbeat();
  EXPECT_THAT(silent.AwaitEnd(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("must be hello")));
}

TEST_F(WorkerLinkTest, ANameThatIsTakenByALiveWorkerIsRefused) {
  const auto first = Join("w1", "1");
  EXPECT_THAT(Refusal(FakeWorker::HelloOf("w1", "2")),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("w1")));
  ASSERT_OK_AND_ASSIGN(const v1::Worker shown, GetWorker("workers/w1"));
  EXPECT_EQ(shown.state(), v1::Worker::STATE_READY);
}

TEST_F(WorkerLinkTest, TheNewestStreamOfAnAgentCounts) {
  const auto first = Join("w1", "1");
  const auto second = Join("w1", "1");
  EXPECT_THAT(first->AwaitEnd(), StatusIs(absl::StatusCode::kAborted));
  // Commands go to the second, and the end of the first did not count as the worker's.
  ASSERT_OK(Create(SpecOf("demo")));
  EXPECT_TRUE(second->AwaitStart().has_value());
}

TEST_F(WorkerLinkTest, ExitsAndCheckpointsAreAcknowledgedOnceDurable) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  worker->SendCheckpoint(start, 41, 10);
  auto acknowledged = worker->Await(v1::CoordinatorMessage::kAcknowledged);
  ASSERT_TRUE(acknowledged.has_value());
  EXPECT_THAT(acknowledged->acknowledged().ids(), ElementsAre(41));
  worker->SendExit(start, 42, v1::MemberExit::OUTCOME_SUCCEEDED);
  acknowledged = worker->Await(v1::CoordinatorMessage::kAcknowledged);
  ASSERT_TRUE(acknowledged.has_value());
  EXPECT_THAT(acknowledged->acknowledged().ids(), ElementsAre(42));
  RestartServer();
  ASSERT_OK_AND_ASSIGN(const v1::Job job, Get(start.job()));
  EXPECT_EQ(job.state(), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(job.checkpoint_step(), 10);
}

// What is the matter with a store.
struct StoreTrouble {
  std::atomic<bool> taken_over = false;  // another coordinator writes to it
  absl::Mutex busy;                      // commits wait while somebody holds it
};

class TroubledStore final : public JobStore {
 public:
  TroubledStore(std::unique_ptr<JobStore> real, StoreTrouble& trouble)
      : real_(std::move(real)), trouble_(trouble) {}
  absl::StatusOr<StoredCluster> Load() override { return real_->Load(); }
  absl::StatusOr<StoreVersion> Commit(StoreVersion expected,
                                      absl::Span<const Fact> facts) override {
    const absl::MutexLock lock(&trouble_.busy);
    if (trouble_.taken_over) return absl::AbortedError("another coordinator writes to it");
    return real_->Commit(expected, facts);
  }

 private:
  const std::unique_ptr<JobStore> real_;
  StoreTrouble& trouble_;
};

class LinkOfATroubledStore : public WorkerLinkTest {
 protected:
  std::unique_ptr<JobStore> Between(std::unique_ptr<JobStore> store) override {
    return std::make_unique<TroubledStore>(std::move(store), trouble_);
  }
  void TearDown() override { server_.reset(); }  // which uses it
  StoreTrouble trouble_;
};

// An agent forgets what was acknowledged, and then nobody would ever hear of it.
TEST_F(LinkOfATroubledStore, ACoordinatorThatStepsDownAcknowledgesNothing) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  trouble_.taken_over = true;
  worker->SendCheckpoint(start, 41, 10);
  worker->SendExit(start, 42, v1::MemberExit::OUTCOME_SUCCEEDED);
  ASSERT_TRUE(stepped_down_.WaitForNotificationWithTimeout(absl::Seconds(20)));
  EXPECT_THAT(Create(SpecOf("late")), StatusIs(absl::StatusCode::kUnavailable))
      << "a client may ask the next coordinator";
  server_->Stop();
  EXPECT_FALSE(worker->Await(v1::CoordinatorMessage::kAcknowledged).has_value());
}

TEST_F(LinkOfATroubledStore, AStreamThatEndsBeforeItsWelcomeIsTheEndOfTheConnectionToo) {
  FakeWorker first(server_->address());
  FakeWorker second(server_->address());
  {
    const absl::MutexLock lock(&trouble_.busy);
    first.SendHello(FakeWorker::HelloOf("w1", "1"));
    first.SendHello(FakeWorker::HelloOf("w1", "1"));
    ASSERT_THAT(first.AwaitEnd(), StatusIs(absl::StatusCode::kInvalidArgument));
    second.SendHello(FakeWorker::HelloOf("w1", "2"));
  }
  EXPECT_TRUE(second.Await(v1::CoordinatorMessage::kWelcome).has_value()) << second.AwaitEnd();
}

TEST_F(WorkerLinkTest, NewsOfJobsThatAreGoneAreAcknowledgedToo) {
  const auto worker = Join("w1");
  v1::StartMember unknown;
  unknown.set_job("jobs/gone-77");
  unknown.set_generation(3);
  worker->SendExit(unknown, 5, v1::MemberExit::OUTCOME_FAILED);
  auto answer = worker->Await(v1::CoordinatorMessage::kAcknowledged);
  ASSERT_TRUE(answer.has_value());
  EXPECT_THAT(answer->acknowledged().ids(), ElementsAre(5));
  worker->SendLogs("jobs/gone-77", 10, {"nobody", "reads this"});
  answer = worker->Await(v1::CoordinatorMessage::kLogsStored);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->logs_stored().next(), 12);
  // A member of such a job is told to stop, by the name under which it was heard of.
  worker->SendHeartbeat(unknown, v1::MemberStatus::PHASE_TRAINING, 9);
  answer = worker->Await(v1::CoordinatorMessage::kStop);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->stop().job(), "jobs/gone-77");
  EXPECT_EQ(answer->stop().generation(), 3);
}

TEST_F(WorkerLinkTest, ARunningJobIsAdoptedAfterARestart) {
  auto worker = Join("w1", "1");
  const v1::StartMember start = Run(*worker, "demo");
  RestartServer();
  v1::Hello hello = FakeWorker::HelloOf("w1", "1");
  v1::MemberStatus& running = *hello.add_running();
  running.set_job(start.job());
  running.set_generation(start.generation());
  running.set_phase(v1::MemberStatus::PHASE_TRAINING);
  running.set_step(5);
  worker = std::make_unique<FakeWorker>(server_->address());
  worker->SendHello(hello);
  ASSERT_TRUE(worker->Await(v1::CoordinatorMessage::kWelcome).has_value());
  worker->SendSteps(start, 6, 7);
  Finish(*worker, start);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, AwaitState(start.job(), v1::Job::STATE_SUCCEEDED));
  EXPECT_EQ(job.generation(), 1);
  EXPECT_EQ(job.last_step().step(), 7);
}

TEST_F(WorkerLinkTest, AFailureIsRetriedAndCountsAsARecovery) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  Finish(*worker, start, v1::MemberExit::OUTCOME_FAILED);
  const auto again = worker->AwaitStart();  // after a back-off of a second
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->generation(), 2);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, Get(start.job()));
  EXPECT_EQ(job.recoveries(), 1);
}

TEST_F(WorkerLinkTest, WhatHeartbeatsSayToHaveEndedIsNotStartedAgain) {
  const auto worker = Join("w1");
  ASSERT_OK(Create(SpecOf("demo")));
  const auto start = worker->AwaitStart();
  ASSERT_TRUE(start.has_value());
  worker->SendHeartbeatOfAnEnd(*start);
  worker->SendExit(*start, 1, v1::MemberExit::OUTCOME_PEER_LOST);
  const auto next = worker->AwaitStart();
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->generation(), 2);
  v1::WorkerMessage odd;
  odd.mutable_heartbeat()->add_ended()->set_job("nonsense");
  worker->Send(odd);
  EXPECT_THAT(worker->AwaitEnd(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ended.job")));
}

TEST_F(WorkerLinkTest, AUserErrorFailsTheJobWithItsSentence) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  Finish(*worker, start, v1::MemberExit::OUTCOME_USER_ERROR);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, AwaitState(start.job(), v1::Job::STATE_FAILED));
  EXPECT_THAT(job.reason(), HasSubstr("as the test wants it"));
}

TEST_F(WorkerLinkTest, StepsAreConfirmedOnceTheyAreInTheHistory) {
  const auto worker = Join("w1");
  v1::StartMember start = Run(*worker, "demo");
  worker->SendSteps(start, 1, 20);
  auto answer = worker->Await(v1::CoordinatorMessage::kStepsStored);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->steps_stored().job(), start.job());
  EXPECT_EQ(answer->steps_stored().generation(), 1);
  EXPECT_EQ(answer->steps_stored().first(), 1);
  EXPECT_EQ(answer->steps_stored().last(), 20);
  RestartServer();
  EXPECT_EQ(HistoryOf(start.job()), Numbers(1, 20));
  // Nobody waits for those of a job that is gone.
  const auto again = Join("w1", "2");
  start.set_job("jobs/gone-77");
  again->SendSteps(start, 3, 4);
  answer = again->Await(v1::CoordinatorMessage::kStepsStored);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->steps_stored().first(), 3);
}

// A leader died, and its follower had begun a new generation before the agent told it the rest.
TEST_F(WorkerLinkTest, LateStepsOfAnEarlierGenerationFillTheHistory) {
  const auto worker = Join("w1");
  const v1::StartMember first = Run(*worker, "demo");
  worker->SendSteps(first, 1, 3);
  worker->SendCheckpoint(first, 7, 10);
  Finish(*worker, first, v1::MemberExit::OUTCOME_FAILED);
  const auto second = worker->AwaitStart();
  ASSERT_TRUE(second.has_value());
  worker->SendHeartbeat(*second, v1::MemberStatus::PHASE_TRAINING, 11);
  worker->SendSteps(*second, 11, 12);
  worker->SendSteps(first, 4, 10);
  ASSERT_TRUE(weft::testing::Await([&] { return HistoryOf(first.job()) == Numbers(1, 12); }));
  ASSERT_OK_AND_ASSIGN(const v1::Job job, Get(first.job()));
  EXPECT_EQ(job.last_step().step(), 12) << "the job is no step behind";
}

TEST_F(WorkerLinkTest, ADrainedWorkerGivesUpItsJobAndTakesNoOther) {
  const auto worker = Join("w1");
  const v1::StartMember start = Run(*worker, "demo");
  v1::DrainWorkerRequest drain;
  drain.set_name("workers/w1");
  drain.set_reason("new kernel");
  ASSERT_OK_AND_ASSIGN(v1::Worker shown,
                       Call(&v1::WorkerService::Stub::DrainWorker, *workers_, drain));
  EXPECT_EQ(shown.state(), v1::Worker::STATE_DRAINING);
  EXPECT_EQ(shown.reason(), "new kernel");
  EXPECT_THAT(shown.jobs(), ElementsAre(start.job()));
  const auto stop = worker->Await(v1::CoordinatorMessage::kStop);
  ASSERT_TRUE(stop.has_value());
  EXPECT_EQ(stop->stop().mode(), v1::StopMember::MODE_SAVE);
  Finish(*worker, start, v1::MemberExit::OUTCOME_SAVED);
  ASSERT_OK(AwaitState(start.job(), v1::Job::STATE_QUEUED));
  ASSERT_OK_AND_ASSIGN(shown, GetWorker("workers/w1"));
  EXPECT_EQ(shown.state(), v1::Worker::STATE_DRAINED);
  EXPECT_THAT(shown.jobs(), IsEmpty());
  v1::UndrainWorkerRequest undrain;
  undrain.set_name("workers/w1");
  ASSERT_OK(Call(&v1::WorkerService::Stub::UndrainWorker, *workers_, undrain));
  EXPECT_TRUE(worker->AwaitStart().has_value());
}

TEST_F(WorkerLinkTest, WorkersAreListedInPages) {
  const auto b = Join("b");
  const auto a = Join("a");
  v1::ListWorkersRequest request;
  request.set_page_size(1);
  ASSERT_OK_AND_ASSIGN(v1::ListWorkersResponse page,
                       Call(&v1::WorkerService::Stub::ListWorkers, *workers_, request));
  ASSERT_EQ(page.workers_size(), 1);
  EXPECT_EQ(page.workers(0).name(), "workers/a");
  request.set_page_token(page.next_page_token());
  ASSERT_OK_AND_ASSIGN(page, Call(&v1::WorkerService::Stub::ListWorkers, *workers_, request));
  ASSERT_EQ(page.workers_size(), 1);
  EXPECT_EQ(page.workers(0).name(), "workers/b");
  EXPECT_THAT(page.next_page_token(), IsEmpty());
  EXPECT_THAT(GetWorker("workers/c"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(GetWorker("c"), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace weft::coordinator::testing
