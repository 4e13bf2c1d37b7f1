// Two coordinators on one PostgreSQL database: when the one that leads dies or is stopped, the
// other goes on with the same gangs. Also where everybody must show a certificate.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <iostream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/rpc/grpc_channel.h"
#include "coordinator/store/postgres_connection.h"
#include "tests/testing/await.h"
#include "tests/testing/postgres_server.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_authority.h"
#include "tests/testing/test_cluster.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using weft::testing::Await;
using weft::testing::CallerTlsFlags;
using weft::testing::HttpGet;
using weft::testing::IsOkAndHolds;
using weft::testing::MutualTlsFlags;
using weft::testing::PostgresServer;
using weft::testing::ProgramResult;
using weft::testing::TestAuthority;
using weft::testing::TestCluster;
using weft::testing::TinySpec;

class Failover : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(Start("c1"));
    ASSERT_OK_AND_ASSIGN(leader_, cluster_.AwaitLeader());
    ASSERT_OK(Start("c2"));
    ASSERT_TRUE(Await([&] { return !StandbyMetrics("c2").empty(); }));
  }
  absl::Status Start(const std::string& name) {
    std::vector<std::string> flags = CoordinatorFlags(name);
    flags.insert(flags.end(), {"--leader-lease", "2s"});
    return cluster_.StartReplica(name, target_, flags);
  }
  // Further flags of a program, by its name in the cluster.
  virtual std::vector<std::string> CoordinatorFlags(const std::string& /*name*/) { return {}; }
  virtual std::vector<std::string> WorkerFlags(const std::string& /*name*/) { return {}; }
  absl::Status StartWorker(const std::string& name) {
    return cluster_.StartWorker(name, WorkerFlags(name));
  }
  // Where a coordinator that stands by answers probes; it says so in its log.
  std::string StandbyMetrics(const std::string& name) {
    const std::string errors = cluster_.ErrorsOf(name);
    const std::string key = "metrics=";
    const size_t line = errors.rfind("stands by: ");
    if (line == std::string::npos) return "";
    const size_t end = errors.find('\n', line);
    if (end == std::string::npos) return "";  // not all of the line yet
    const size_t begin = errors.find(key, line) + key.size();
    return errors.substr(begin, end - begin);
  }
  v1::JobSpec Spec(int workers, int64_t steps) {
    v1::JobSpec spec = TinySpec(cluster_.text_path(), steps);
    spec.mutable_resources()->set_min_workers(workers);
    spec.mutable_resources()->set_max_workers(workers);
    return spec;
  }
  // The weights after an undisturbed run on one worker.
  std::string UndisturbedHash(int64_t steps) {
    const auto job = cluster_.Submit(Spec(1, steps));
    EXPECT_OK(job);
    const auto done = cluster_.AwaitState(job->name(), v1::Job::STATE_SUCCEEDED);
    EXPECT_OK(done);
    return done.ok() ? done->weights_hash() : "";
  }
  // An endless one goes on to step `step` at least, in its first generation.
  void ExpectTrainingGoesOn(const std::string& job) {
    const auto before = cluster_.GetJob(job);
    ASSERT_OK(before);
    const auto after = cluster_.AwaitStep(job, before->last_step().step() + 10);
    ASSERT_OK(after);
    EXPECT_EQ(after->generation(), 1) << "the running gang was adopted, not restarted";
  }
  void AKilledLeaderIsFollowed() {
    constexpr int64_t step_count = 200;
    ASSERT_OK(StartWorker("w1"));
    ASSERT_OK(StartWorker("w2"));
    const std::string undisturbed = UndisturbedHash(step_count);
    ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(Spec(2, step_count)));
    ASSERT_OK(cluster_.AwaitStep(job.name(), 30));
    // Until the first steps are stored: that happens beside everything else.
    ASSERT_TRUE(Await([&] {
      const std::vector<int64_t> steps = StepsOf(job.name());
      return !steps.empty() && steps.front() == 1;
    }));
    ASSERT_OK_AND_ASSIGN(const v1::Job before, cluster_.GetJob(job.name()));
    const absl::Time killed = absl::Now();
    cluster_.Kill("c1", SIGKILL);
    ASSERT_OK_AND_ASSIGN(const std::string next, cluster_.AwaitLeader());
    Tell("the standby serves", killed);
    EXPECT_EQ(next, "c2");
    ASSERT_OK(cluster_.AwaitState(job.name(), v1::Job::STATE_RUNNING));
    ASSERT_OK(Start("c1"));  // as its supervisor would
    ASSERT_OK_AND_ASSIGN(const v1::Job done,
                         cluster_.AwaitState(job.name(), v1::Job::STATE_SUCCEEDED));
    EXPECT_EQ(done.generation(), 1) << "the running gang was adopted, not restarted";
    EXPECT_EQ(done.weights_hash(), undisturbed);
    // No step lacks in the curves, whatever was on its way when the leader died.
    EXPECT_EQ(done.first_loss(), before.first_loss());
    std::vector<int64_t> all(step_count);
    std::iota(all.begin(), all.end(), 1);
    EXPECT_TRUE(Await([&] { return StepsOf(job.name()) == all; }))
        << ::testing::PrintToString(StepsOf(job.name()));
    EXPECT_THAT(cluster_.Cli({"get", "jobs"}).output, HasSubstr("SUCCEEDED"));
    // And back: the one that was killed stands by now.
    ASSERT_TRUE(Await([&] { return !StandbyMetrics("c1").empty(); }));
    cluster_.Kill("c2", SIGTERM);
    ASSERT_OK(cluster_.AwaitLeader());
    ASSERT_OK_AND_ASSIGN(const v1::Job kept, cluster_.GetJob(job.name()));
    EXPECT_EQ(kept.weights_hash(), undisturbed);
  }
  // The numbers of the steps in the job's history.
  std::vector<int64_t> StepsOf(const std::string& job) {
    grpc::ClientContext context;
    SetTimeout(context, absl::Seconds(20));
    v1::ListStepsRequest request;
    request.set_name(job);
    v1::ListStepsResponse response;
    const auto stub = v1::JobService::NewStub(cluster_.channel());
    EXPECT_TRUE(stub->ListSteps(&context, request, &response).ok());
    std::vector<int64_t> numbers;
    for (const v1::StepReport& step : response.steps()) numbers.push_back(step.step());
    return numbers;
  }
  int64_t Query(const std::string& sql) {
    coordinator::PostgresConnection::Options options;
    options.target = target_;
    const auto shell = coordinator::PostgresConnection::Open(options);
    EXPECT_OK(shell);
    const auto number = (*shell)->QueryInt(sql);
    EXPECT_OK(number);
    return number.value_or(-1);
  }
  static void Tell(const char* what, absl::Time since) {
    std::cerr << "    " << what << " after " << absl::FormatDuration(absl::Now() - since) << "\n";
  }

  PostgresServer server_;
  const std::string target_ = server_.NewDatabase();
  TestCluster cluster_;
  std::string leader_;
};

TEST_F(Failover, AStandbyIsAliveAndNotReadyAndServesNobody) {
  EXPECT_EQ(leader_, "c1");
  const std::string metrics = StandbyMetrics("c2");
  EXPECT_THAT(HttpGet(metrics, "/startupz"), IsOkAndHolds("ok\n"));
  EXPECT_THAT(HttpGet(metrics, "/livez"), IsOkAndHolds("ok\n"));
  EXPECT_THAT(HttpGet(metrics, "/readyz"), IsOkAndHolds(HasSubstr("stands by: ")));
  EXPECT_THAT(HttpGet(metrics, "/metrics"), IsOkAndHolds(HasSubstr("weft_leader 0")));
  EXPECT_THAT(HttpGet(cluster_.coordinator_metrics(), "/metrics"),
              IsOkAndHolds(HasSubstr("weft_leader 1")));
  EXPECT_THAT(HttpGet(cluster_.coordinator_metrics(), "/readyz"), IsOkAndHolds("ok\n"));
  const ProgramResult only_standby = cluster_.RunProgram(
      "weft", {"get", "jobs"},
      {{"WEFT_ADDRESS", cluster_.addresses().substr(cluster_.addresses().find(',') + 1)}});
  EXPECT_EQ(only_standby.exit_code, 6) << only_standby.errors;
  EXPECT_EQ(cluster_.Cli({"get", "jobs"}).exit_code, 0) << "which finds the one that leads";
  cluster_.Kill("c2", SIGTERM);
  EXPECT_EQ(cluster_.AwaitExit("c2", absl::Seconds(1)), 0);
}

TEST_F(Failover, AKilledLeaderIsFollowedAndTheJobEndsWithTheSameWeights) {
  AKilledLeaderIsFollowed();
}

// How long `weft` looks for the one that leads.
constexpr absl::Duration kFindLeader = absl::Seconds(10);

class FailoverWithTls : public Failover {
 protected:
  void SetUp() override {
    cluster_.UseTls(Issue("client"));
    Failover::SetUp();
  }
  TlsFiles Issue(const std::string& name) {
    return authority_.IssueTo(absl::StrCat(cluster_.directory(), "/tls-", name));
  }
  std::vector<std::string> CoordinatorFlags(const std::string& name) override {
    return MutualTlsFlags(Issue(name));
  }
  std::vector<std::string> WorkerFlags(const std::string& name) override {
    return CallerTlsFlags(Issue(name));
  }

  TestAuthority authority_;
};

TEST_F(FailoverWithTls, AKilledLeaderIsFollowedAndTheJobEndsWithTheSameWeights) {
  ASSERT_NO_FATAL_FAILURE(AKilledLeaderIsFollowed());
  // The one that leads now is as strict as the first one was, and says so at once: not after the
  // time in which a leader might be found.
  const absl::Time asked = absl::Now();
  TlsFiles anonymous;
  anonymous.ca = Issue("client").ca;
  for (const TlsFiles& files : {TlsFiles(), anonymous}) {
    cluster_.UseTls(files);
    const ProgramResult refused = cluster_.Cli({"get", "jobs"});
    EXPECT_EQ(refused.exit_code, 6) << refused.output;
    EXPECT_THAT(refused.errors, HasSubstr("needed"));
  }
  EXPECT_LT(absl::Now() - asked, kFindLeader);
}

TEST_F(Failover, AStoppedLeaderIsFollowedAndCommitsNothingWhenItGoesOn) {
  ASSERT_OK(StartWorker("w1"));
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(Spec(1, 10'000'000)));
  ASSERT_OK(cluster_.AwaitStep(job.name(), 10));
  const std::string old_address = cluster_.address();
  const absl::Time stopped = absl::Now();
  kill(cluster_.PidOf("c1"), SIGSTOP);
  ASSERT_OK(cluster_.AwaitLeader("c1"));
  Tell("the standby serves", stopped);
  ASSERT_OK(cluster_.AwaitState(job.name(), v1::Job::STATE_RUNNING));
  ExpectTrainingGoesOn(job.name());
  Tell("the gang is adopted and heard of", stopped);
  EXPECT_EQ(Query("SELECT term FROM weft.meta"), 2);

  // Somebody asks the old one, whose kernel takes the connection, and it wakes up with the
  // question.
  ProgramResult late;
  std::thread client([&] {
    late = cluster_.RunProgram("weft", {"cancel", std::string(job.name())},
                               {{"WEFT_ADDRESS", old_address}});
  });
  ASSERT_TRUE(Await([&] { return absl::StrContains(cluster_.Output(), "---- run 1: weft"); }));
  const absl::Time woken = absl::Now();
  kill(cluster_.PidOf("c1"), SIGCONT);
  client.join();
  EXPECT_NE(late.exit_code, 0) << late.output;
  ASSERT_TRUE(Await([&] { return !StandbyMetrics("c1").empty(); }));
  Tell("the old leader has stepped down and stands by", woken);
  EXPECT_THAT(cluster_.ErrorsOf("c1"), HasSubstr("steps down"));
  EXPECT_THAT(HttpGet(StandbyMetrics("c1"), "/readyz"), IsOkAndHolds(HasSubstr("stands by: ")));
  EXPECT_EQ(Query("SELECT count(*) FROM weft.facts WHERE name = 'JobGoalSet'"), 0);
  EXPECT_EQ(Query("SELECT term FROM weft.meta"), 2);
  ExpectTrainingGoesOn(job.name());
}

TEST_F(Failover, ACrashOfTheDatabaseStopsNoTraining) {
  ASSERT_OK(StartWorker("w1"));
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(Spec(1, 10'000'000)));
  ASSERT_OK(cluster_.AwaitStep(job.name(), 10));
  server_.Kill();
  for (const char* const name : {"c1", "c2"}) {
    ASSERT_TRUE(Await([&] {
      return absl::StrContains(cluster_.ErrorsOf(name), "stands by: cannot connect to PostgreSQL");
    })) << name;
  }
  server_.Start();
  ASSERT_OK(cluster_.AwaitLeader());
  ASSERT_OK(cluster_.AwaitState(job.name(), v1::Job::STATE_RUNNING));
  ExpectTrainingGoesOn(job.name());
}

TEST(Postgres, APasswordInTheSettingsIsRefusedAndNotRepeated) {
  TestCluster cluster;
  const ProgramResult refused = cluster.RunProgram(
      "weft-coordinator", {"--postgres", "host=db password=hush", "--print-config"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.errors, HasSubstr("postgres: has a password in it"));
  EXPECT_THAT(refused.errors + refused.output, Not(HasSubstr("hush")));
}

}  // namespace
}  // namespace weft
