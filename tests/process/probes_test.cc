// What an orchestrator asks the programs: started, alive, ready. A loop is made to hang by stopping
// its thread alone, which is what a call that never returns looks like from outside.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/rpc/grpc_channel.h"
#include "tests/testing/await.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_cluster.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using weft::testing::Await;
using weft::testing::HttpGet;
using weft::testing::IsOkAndHolds;
using weft::testing::TestCluster;

// The first thread of a process with this name; 0 when there is none.
pid_t ThreadOf(pid_t process, const std::string& name) {
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(absl::StrCat("/proc/", process, "/task"), error)) {
    std::ifstream file(entry.path() / "comm");
    std::string found;
    pid_t thread = 0;
    if (std::getline(file, found) && found == name &&
        absl::SimpleAtoi(entry.path().filename().string(), &thread)) {
      return thread;
    }
  }
  return 0;
}

// Stops one thread of a child for the time of the object.
class StoppedThread {
 public:
  explicit StoppedThread(pid_t thread) : thread_(thread) {
    EXPECT_EQ(ptrace(PTRACE_SEIZE, thread_, nullptr, nullptr), 0) << errno;
    EXPECT_EQ(ptrace(PTRACE_INTERRUPT, thread_, nullptr, nullptr), 0) << errno;
    EXPECT_EQ(waitpid(thread_, nullptr, __WALL), thread_);
  }
  ~StoppedThread() { ptrace(PTRACE_DETACH, thread_, nullptr, nullptr); }
  StoppedThread(const StoppedThread&) = delete;
  StoppedThread& operator=(const StoppedThread&) = delete;

 private:
  const pid_t thread_;
};

// grpc.health.v1.Health/Check of the whole server. Debian does not ship its proto; the answer is
// field 1: 1 SERVING, 2 NOT_SERVING.
int GrpcHealth(const std::string& address) {
  const auto channel = NewChannel(address);
  grpc::ClientContext context;
  SetTimeout(context, absl::Seconds(20));
  grpc::ByteBuffer received;
  absl::Notification done;
  const grpc::Slice nothing("");
  const grpc::ByteBuffer request(&nothing, 1);
  grpc::GenericStub(channel).UnaryCall(&context, "/grpc.health.v1.Health/Check",
                                       grpc::StubOptions(), &request, &received,
                                       [&](const grpc::Status&) { done.Notify(); });
  done.WaitForNotification();
  grpc::Slice answer;
  if (!received.DumpToSingleSlice(&answer).ok() || answer.size() != 2) return 0;
  return answer.begin()[1];
}

class Probes : public ::testing::Test {
 protected:
  static bool Says(const std::string& address, const std::string& path, const std::string& text) {
    return Await([&] {
      const auto answer = HttpGet(address, path);
      return answer.ok() && answer->find(text) != std::string::npos;
    });
  }

  TestCluster cluster_;
};

TEST_F(Probes, OfACoordinatorFailWhileItsLoopHangsAndRecoverWithIt) {
  ASSERT_OK(cluster_.StartCoordinator({"--hang-timeout", "1s"}));
  const std::string metrics = cluster_.coordinator_metrics();
  for (const char* path : {"/startupz", "/livez", "/readyz"}) {
    EXPECT_THAT(HttpGet(metrics, path), IsOkAndHolds("ok\n")) << path;
  }
  EXPECT_EQ(GrpcHealth(cluster_.address()), 1);
  {
    const pid_t loop = ThreadOf(cluster_.PidOf("coordinator"), "loop");
    ASSERT_GT(loop, 0);
    const StoppedThread hangs(loop);
    EXPECT_TRUE(Says(metrics, "/livez", "the event loop has been stuck for "));
    EXPECT_TRUE(Says(metrics, "/readyz", "the event loop is behind"));
    EXPECT_TRUE(Await([&] { return GrpcHealth(cluster_.address()) == 2; }));
    EXPECT_THAT(HttpGet(metrics, "/startupz"), IsOkAndHolds("ok\n"));
    EXPECT_THAT(HttpGet(metrics, "/metrics"), IsOkAndHolds(HasSubstr("weft_build_info")));
  }
  EXPECT_TRUE(Says(metrics, "/livez", "ok"));
  EXPECT_TRUE(Says(metrics, "/readyz", "ok"));
  EXPECT_TRUE(Await([&] { return GrpcHealth(cluster_.address()) == 1; }));
}

TEST_F(Probes, OfAWorkerTellAHangingLoopFromALostCoordinator) {
  ASSERT_OK(cluster_.StartCoordinator());
  ASSERT_OK(cluster_.StartWorker("w1", {"--hang-timeout", "1s"}));
  const std::string metrics = cluster_.WorkerMetrics("w1");
  ASSERT_FALSE(metrics.empty());
  for (const char* path : {"/startupz", "/livez", "/readyz"}) {
    EXPECT_THAT(HttpGet(metrics, path), IsOkAndHolds("ok\n")) << path;
  }
  cluster_.Kill("coordinator", SIGKILL);
  EXPECT_TRUE(Says(metrics, "/readyz", "the coordinator is not connected"));
  EXPECT_THAT(HttpGet(metrics, "/livez"), IsOkAndHolds("ok\n")) << "its ranks would die with it";
  const pid_t loop = ThreadOf(cluster_.PidOf("w1"), "loop");
  ASSERT_GT(loop, 0);
  const StoppedThread hangs(loop);
  EXPECT_TRUE(Says(metrics, "/livez", "the agent's loop has been stuck for "));
}

TEST_F(Probes, ADrainUntilTheRestartEndsWithTheNextAgent) {
  ASSERT_OK(cluster_.Start(1));
  ASSERT_OK_AND_ASSIGN(const v1::Job job,
                       cluster_.Submit(weft::testing::TinySpec(cluster_.text_path(), 100000)));
  ASSERT_OK(cluster_.AwaitStep(job.name(), 1));
  const weft::testing::ProgramResult drained =
      cluster_.Cli({"drain", "w1", "--until-restart", "--wait", "--reason", "the pod stops"});
  EXPECT_EQ(drained.exit_code, 0) << drained.errors;
  EXPECT_THAT(drained.output, HasSubstr("workers/w1 drained\n"));
  ASSERT_OK_AND_ASSIGN(const v1::Job saved, cluster_.GetJob(job.name()));
  EXPECT_EQ(saved.state(), v1::Job::STATE_QUEUED);
  cluster_.Kill("w1", SIGTERM);
  ASSERT_OK(cluster_.StartWorker("w1"));  // which waits until the worker is READY, not DRAINED
  ASSERT_OK(cluster_.AwaitStep(job.name(), saved.last_step().step() + 1));
}

}  // namespace
}  // namespace weft
