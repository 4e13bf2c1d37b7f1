#include "coordinator/service/coordinator_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "common/metrics/metrics_server.h"
#include "coordinator/service/announcement.h"
#include "coordinator/store/memory_job_store.h"
#include "tests/common/metrics/http_get.h"
#include "tests/coordinator/service/service_fixture.h"
#include "tests/testing/await.h"

namespace weft::coordinator::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using weft::testing::ConnectTo;
using weft::testing::HttpGet;
using weft::testing::StatusIs;

int PortOf(const std::string& address) {
  const std::vector<std::string> parts = absl::StrSplit(address, ':');
  int port = 0;
  EXPECT_TRUE(absl::SimpleAtoi(parts.back(), &port));
  return port;
}

class CoordinatorServerTest : public ServiceTest {
 protected:
  std::string Http(const std::string& path) {
    return HttpGet(PortOf(server_->metrics_address()), path);
  }
  std::string FileText(const std::string& name) {
    std::ifstream file(directory_.path() / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  absl::Status TryStart(const std::string& listen, const std::string& metrics_listen) {
    const std::string directory = directory_.path().string();
    auto store = SqliteJobStore::Open(directory);
    if (!store.ok()) return store.status();
    CoordinatorServer::Options options;
    options.state_directory = directory;
    options.listen = listen;
    options.metrics_listen = metrics_listen;
    return CoordinatorServer::Start(options, *std::move(store)).status();
  }
};

TEST_F(CoordinatorServerTest, TheMetricsShowARunningJobAndForgetItWhenItHasEnded) {
  const auto worker = Join("w1");
  v1::StartMember start = Run(*worker, "demo");
  worker->SendSteps(start, 1, 20);
  worker->SendSteps(start, 8, 12);  // sent again: counts once
  Finish(*worker, start, v1::MemberExit::OUTCOME_FAILED);
  const auto again = worker->AwaitStart();
  ASSERT_TRUE(again.has_value());
  start = *again;
  worker->SendHeartbeat(start, v1::MemberStatus::PHASE_TRAINING, 14);
  ASSERT_OK(AwaitState(start.job(), v1::Job::STATE_RUNNING));
  worker->SendSteps(start, 15, 16);  // taken again
  worker->SendCheckpoint(start, 1, 20);
  ASSERT_TRUE(worker->Await(v1::CoordinatorMessage::kAcknowledged).has_value());
  std::string text;
  // What is counted once a second comes with the first tick after the worker.
  EXPECT_TRUE(weft::testing::Await([&] {
    text = Http("/metrics");
    return absl::StrContains(text, "weft_slots{device_kind=\"cpu\",state=\"used\"}") &&
           absl::StrContains(text, "weft_loop_lag_seconds_bucket");
  }));
  for (const char* name : {
           "weft_build_info{program=\"weft-coordinator\",version=\"0.1.0-test\"} 1",
           "weft_queue_wait_seconds_count{queue=\"default\"} 1",
           "weft_submissions_total{result=\"accepted\"} 1",
           "weft_decide_seconds_bucket",
           "weft_commit_seconds_bucket{result=\"OK\"",
           "weft_loop_lag_seconds_bucket",
           "process_start_time_seconds ",
           "process_resident_memory_bytes ",
           "weft_workers{state=\"READY\"}",
           "weft_jobs{state=\"QUEUED\",queue=\"default\"}",
           "weft_job_loss{job_name=\"demo-1\"} 0.3125",
           "weft_job_validation_loss{job_name=\"demo-1\"} 0.3",
           "weft_job_accuracy_ratio{job_name=\"demo-1\",split=\"train\"} 0.5",
           "weft_job_accuracy_ratio{job_name=\"demo-1\",split=\"validation\"} 0.75",
           "weft_job_bits_per_byte{job_name=\"demo-1\",split=\"train\"} 2.25",
           "weft_job_perplexity{job_name=\"demo-1\",split=\"train\"} 4.5",
           "weft_job_graph_density_ratio{job_name=\"demo-1\",layer=\"2\"} 0.25",
           "weft_job_step{job_name=\"demo-1\"} 16",
           "weft_job_tokens_total{job_name=\"demo-1\"} 1408",
           "weft_job_step_seconds_count{job_name=\"demo-1\"} 22",
           "weft_job_time_seconds_total{job_name=\"demo-1\",cause=\"compute\"} 5",
           "weft_job_time_seconds_total{job_name=\"demo-1\",cause=\"exchange\"} 5",
           "weft_job_time_seconds_total{job_name=\"demo-1\",cause=\"redo\"} 1",
           "weft_job_time_seconds_total{job_name=\"demo-1\",cause=\"wait\"}",
           "weft_checkpoint_last_success_timestamp_seconds{job_name=\"demo-1\"}",
           "weft_slots{device_kind=\"cpu\",state=\"free\"}",
           "weft_slots{device_kind=\"cpu\",state=\"used\"}",
           "weft_queue_oldest_wait_seconds{queue=\"default\"} 0",
           "weft_queue_held_workers{queue=\"default\"}",
           "weft_job_info{job_name=\"demo-1\",queue=\"default\"} 1",
           "weft_job_state{job_name=\"demo-1\",state=\"RUNNING\"} 1",
           "weft_job_planned_steps{job_name=\"demo-1\"}",
           "weft_job_gradient_norm{job_name=\"demo-1\"} 2.5",
           "weft_job_learning_rate{job_name=\"demo-1\"} 0.125",
           "weft_job_last_step_timestamp_seconds{job_name=\"demo-1\"}",
           "weft_job_running_since_timestamp_seconds{job_name=\"demo-1\"}",
           "weft_job_checkpoint_every_steps{job_name=\"demo-1\"} 100",
           "weft_job_skipped_steps_total{job_name=\"demo-1\"} 1",
           "weft_job_generation{job_name=\"demo-1\"} 2",
           "weft_job_workers{job_name=\"demo-1\"} 1",
           "weft_job_recoveries_total{job_name=\"demo-1\",cause=\"host_lost\"} 0",
           "weft_job_checkpoints_total{job_name=\"demo-1\"} 1",
           "weft_job_checkpoint_step{job_name=\"demo-1\"} 20",
           "weft_job_checkpoint_bytes{job_name=\"demo-1\"}",
           "weft_rpc_seconds_count{method=\"weft.v1.JobService/CreateJob\",code=\"OK\"} 1",
       }) {
    EXPECT_THAT(text, HasSubstr(name));
  }
  Finish(*worker, start, v1::MemberExit::OUTCOME_FAILED);
  ASSERT_OK(Cancel(start.job()));
  ASSERT_OK(AwaitState(start.job(), v1::Job::STATE_CANCELLED));
  EXPECT_THAT(Http("/metrics"), AllOf(Not(HasSubstr("=\"demo-1\"")),
                                      HasSubstr("weft_recoveries_total{cause=\"rank_failed\"} 2")));
}

TEST_F(CoordinatorServerTest, AJobThatRanThroughARestartIsSeenToStandStillFromThenOn) {
  const auto worker = Join("w1");
  const v1::StartMember running = Run(*worker, "running");
  ASSERT_OK_AND_ASSIGN(const v1::Job waiting, Create(SpecOf("waiting")));
  RestartServer();
  const std::string text = Http("/metrics");
  for (const char* name : {"weft_job_state{job_name=\"running-1\",state=\"RUNNING\"} 1",
                           "weft_job_last_step_timestamp_seconds{job_name=\"running-1\"}",
                           "weft_job_running_since_timestamp_seconds{job_name=\"running-1\"}"}) {
    EXPECT_THAT(text, HasSubstr(name));
  }
  EXPECT_THAT(text, Not(HasSubstr("timestamp_seconds{job_name=\"waiting-2\"}")));
}

TEST_F(CoordinatorServerTest, ADrainedWorkerThatIsGoneIsNotCountedAmongTheLost) {
  auto drained = Join("drained");
  auto missed = Join("missed");
  v1::DrainWorkerRequest request;
  request.set_name("workers/drained");
  ASSERT_OK(Call(&v1::WorkerService::Stub::DrainWorker, *workers_, request).status());
  drained.reset();
  missed.reset();
  std::string text;
  EXPECT_TRUE(weft::testing::Await([&] {
    text = Http("/metrics");
    return absl::StrContains(text, "weft_workers{state=\"READY\"} 0") &&
           absl::StrContains(text, "weft_workers{state=\"LOST\"} 1") &&
           absl::StrContains(text, "weft_workers{state=\"DRAINED\"} 1");
  })) << text;
}

TEST_F(CoordinatorServerTest, ProbesSayWhetherItServes) {
  EXPECT_THAT(Http("/startupz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Http("/livez"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Http("/readyz"), StartsWith("HTTP/1.1 200"));
}

TEST_F(CoordinatorServerTest, GarbageOnThePortDisturbsNobody) {
  const int fd = ConnectTo(PortOf(server_->address()));
  ASSERT_GE(fd, 0);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  const std::string garbage(100000, '\xff');
  send(fd, garbage.data(), garbage.size(), MSG_NOSIGNAL);
  char byte = 0;
  while (recv(fd, &byte, 1, 0) > 0) {  // until the server hangs up
  }
  EXPECT_OK(Create(SpecOf("demo")));
}

TEST_F(CoordinatorServerTest, AHugeRequestIsRefusedWhileOthersAreServed) {
  v1::JobSpec huge = SpecOf("huge");
  huge.mutable_data()->mutable_text()->add_paths(std::string(100 << 20, 'x'));
  EXPECT_THAT(Create(huge), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_OK(Create(SpecOf("demo")));
}

TEST_F(CoordinatorServerTest, APortInUseIsNamed) {
  const std::string grpc = server_->address();
  const std::string http = server_->metrics_address();
  const weft::testing::TempDir other;
  const auto start = [&other](const std::string& listen, const std::string& metrics_listen) {
    CoordinatorServer::Options options;
    options.state_directory = other.path().string();
    options.listen = listen;
    options.metrics_listen = metrics_listen;
    auto store = SqliteJobStore::Open(options.state_directory);
    return store.ok() ? CoordinatorServer::Start(options, *std::move(store)).status()
                      : store.status();
  };
  EXPECT_THAT(start(grpc, "127.0.0.1:0"),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(grpc + ": the port is in use")));
  EXPECT_THAT(start("127.0.0.1:0", http),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(http + ": the port is in use")));
}

TEST_F(CoordinatorServerTest, ADamagedDatabaseIsNamedAndLeftAsItIs) {
  server_.reset();
  for (const std::string name : {"history.db", "weft.db"}) {
    for (const char* suffix : {"", "-wal", "-shm"}) {
      std::filesystem::remove(directory_.path() / (name + suffix));
    }
    const std::string damage(5000, 'x');
    std::ofstream(directory_.path() / name, std::ios::binary) << damage;
    EXPECT_THAT(TryStart("127.0.0.1:0", "127.0.0.1:0"),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(name)));
    EXPECT_EQ(FileText(name), damage);
    std::filesystem::remove(directory_.path() / name);
  }
}

TEST_F(CoordinatorServerTest, StoppingTwiceIsStoppingOnce) {
  server_->Stop();
  server_->Stop();
}

// A store that takes as long to load as the test wants.
class SlowStore final : public JobStore {
 public:
  absl::StatusOr<StoredCluster> Load() override {
    loading.Notify();
    may_end.WaitForNotification();
    return store_.Load();
  }
  absl::StatusOr<StoreVersion> Commit(StoreVersion expected,
                                      absl::Span<const Fact> facts) override {
    return store_.Commit(expected, facts);
  }
  absl::Notification loading;
  absl::Notification may_end;

 private:
  MemoryJobStore store_;
};

TEST(StartingCoordinatorTest, IsAliveButNeitherStartedNorReadyUntilItsStateIsLoaded) {
  const weft::testing::TempDir directory;
  auto store = std::make_unique<SlowStore>();
  SlowStore& slow = *store;
  CoordinatorServer::Options options;
  options.state_directory = directory.path().string();
  {  // a port that was free a moment ago: the server names its own only when it has started
    PrometheusMetrics metrics;
    ASSERT_OK_AND_ASSIGN(const auto other, MetricsServer::Start(metrics, {}));
    options.metrics_listen = other->address();
  }
  const int port = PortOf(options.metrics_listen);
  std::unique_ptr<CoordinatorServer> server;
  std::thread starts([&] {
    auto started = CoordinatorServer::Start(options, std::move(store));
    if (started.ok()) server = *std::move(started);
  });
  slow.loading.WaitForNotification();
  EXPECT_THAT(HttpGet(port, "/livez"), StartsWith("HTTP/1.1 200"));
  for (const char* path : {"/startupz", "/readyz"}) {
    EXPECT_THAT(HttpGet(port, path),
                AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("loading the state")));
  }
  slow.may_end.Notify();
  starts.join();
  ASSERT_NE(server, nullptr);
  for (const char* path : {"/startupz", "/livez", "/readyz"}) {
    EXPECT_THAT(HttpGet(port, path), StartsWith("HTTP/1.1 200"));
  }
}

// A store that another coordinator takes over when the test wants it.
class LostStore final : public JobStore {
 public:
  explicit LostStore(std::atomic<bool>& lost) : lost_(lost) {}
  absl::StatusOr<StoredCluster> Load() override { return store_.Load(); }
  absl::StatusOr<StoreVersion> Commit(StoreVersion expected,
                                      absl::Span<const Fact> facts) override {
    return store_.Commit(expected, facts);
  }
  [[nodiscard]] absl::Duration renewal() const override { return absl::Milliseconds(10); }
  absl::Status Renew() override {
    return lost_ ? absl::AbortedError("another coordinator leads") : absl::OkStatus();
  }

 private:
  std::atomic<bool>& lost_;
  MemoryJobStore store_;
};

TEST(StoppingCoordinatorTest, LeadsNoMoreOnceItHasSteppedDown) {
  const weft::testing::TempDir directory;
  std::atomic<bool> lost = false;
  absl::Notification stepped_down;
  CoordinatorServer::Options options;
  options.state_directory = directory.path().string();
  options.stepped_down = [&stepped_down](const absl::Status&) { stepped_down.Notify(); };
  ASSERT_OK_AND_ASSIGN(const auto server,
                       CoordinatorServer::Start(options, std::make_unique<LostStore>(lost)));
  const int port = PortOf(server->metrics_address());
  EXPECT_THAT(HttpGet(port, "/metrics"), HasSubstr("weft_leader 1"));
  lost = true;
  stepped_down.WaitForNotification();
  EXPECT_THAT(HttpGet(port, "/metrics"), HasSubstr("weft_leader 0"));
}

TEST(AnnouncementTest, TheFileIsThereWhileTheObjectIs) {
  const weft::testing::TempDir directory;
  const auto path = directory.path() / "coordinator.json";
  {
    ASSERT_OK_AND_ASSIGN(
        const Announcement announcement,
        Announcement::Write(directory.path().string(), "127.0.0.1:1", "127.0.0.1:2", "0.1.0"));
    std::ifstream file(path);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    EXPECT_THAT(text, AllOf(HasSubstr("\"address\": \"127.0.0.1:1\""),
                            HasSubstr("\"metrics_address\": \"127.0.0.1:2\""),
                            HasSubstr(absl::StrCat("\"pid\": ", getpid()))));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace weft::coordinator::testing
