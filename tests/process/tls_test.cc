// TLS of the real programs: who is served, who is refused and in which words, and certificates that
// are renewed while a job trains and a client watches.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/await.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_authority.h"
#include "tests/testing/test_cluster.h"

namespace weft {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using weft::testing::Await;
using weft::testing::CallerTlsFlags;
using weft::testing::MutualTlsFlags;
using weft::testing::ProgramResult;
using weft::testing::ReplaceFile;
using weft::testing::ServerTlsFlags;
using weft::testing::TestAuthority;
using weft::testing::TestCluster;
using weft::testing::TinySpec;

constexpr int64_t kForever = 10'000'000;

class Tls : public ::testing::Test {
 protected:
  std::string Folder(const std::string& name) const {
    return absl::StrCat(cluster_.directory(), "/tls-", name);
  }
  TlsFiles Issue(const std::string& name) { return authority_.IssueTo(Folder(name)); }

  // A coordinator that asks for certificates, and workers w1 ... wN, each with its own.
  void StartMutual(int workers) {
    ASSERT_OK(cluster_.StartCoordinator(MutualTlsFlags(Issue("coordinator"))));
    cluster_.UseTls(Issue("client"));
    for (int i = 1; i <= workers; ++i) {
      const std::string name = absl::StrCat("w", i);
      ASSERT_OK(cluster_.StartWorker(name, CallerTlsFlags(Issue(name))));
    }
  }
  v1::JobSpec JobOn(int workers, int64_t steps) const {
    v1::JobSpec spec = TinySpec(cluster_.text_path(), steps);
    spec.mutable_resources()->set_min_workers(workers);
    spec.mutable_resources()->set_max_workers(workers);
    return spec;
  }
  // What `weft get workers` says to a client with these files, in one line.
  std::string RefusalOf(const TlsFiles& files) {
    cluster_.UseTls(files);
    const ProgramResult got = cluster_.Cli({"get", "workers"});
    EXPECT_EQ(got.exit_code, 6) << got.errors;
    EXPECT_EQ(std::count(got.errors.begin(), got.errors.end(), '\n'), 1) << got.errors;
    return got.errors;
  }
  std::string NoConnection(const std::string& why) const {
    return absl::StrCat("weft: no connection to the coordinator at ", cluster_.address(), ": ",
                        why);
  }

  TestCluster cluster_;
  TestAuthority authority_;
  TestAuthority stranger_;
};

TEST_F(Tls, OfTheServerAloneServesThoseWhoKnowItsAuthority) {
  const TlsFiles files = Issue("coordinator");
  TlsFiles client;
  client.ca = files.ca;
  ASSERT_OK(cluster_.StartCoordinator(ServerTlsFlags(files)));
  cluster_.UseTls(client);
  ASSERT_OK(cluster_.StartWorker("w1", CallerTlsFlags(Issue("w1"))));
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(TinySpec(cluster_.text_path(), 5)));
  EXPECT_EQ(cluster_.Cli({"watch", job.name()}).exit_code, 0);

  EXPECT_EQ(RefusalOf({}), NoConnection("it speaks TLS: tls_ca is needed\n"));
  client.ca = stranger_.IssueTo(Folder("stranger")).ca;
  EXPECT_EQ(RefusalOf(client), NoConnection(absl::StrCat("its certificate is from no authority in ",
                                                         client.ca, " (tls_ca)\n")));
}

TEST_F(Tls, OfBothSidesTrainsOnTwoWorkersAndRefusesStrangers) {
  StartMutual(2);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(JobOn(2, 20)));
  ASSERT_OK(cluster_.AwaitState(job.name(), v1::Job::STATE_SUCCEEDED));
  const ProgramResult workers = cluster_.Cli({"get", "workers", "-o", "name"});
  EXPECT_EQ(workers.output, "workers/w1\nworkers/w2\n") << workers.errors;

  TlsFiles anonymous;
  anonymous.ca = Issue("anonymous").ca;
  EXPECT_EQ(
      RefusalOf(anonymous),
      NoConnection("it asks for a certificate of the client: tls_cert and tls_key are needed\n"));
  TlsFiles strange = stranger_.IssueTo(Folder("stranger"));
  strange.ca = anonymous.ca;
  EXPECT_THAT(RefusalOf(strange),
              StartsWith(NoConnection(absl::StrCat("it does not accept the certificate in ",
                                                   strange.cert, " (tls_cert)"))));
}

TEST_F(Tls, AgentsOfTwoAuthoritiesDoNotRunEachOthersRelays) {
  ASSERT_OK(cluster_.StartCoordinator(ServerTlsFlags(Issue("coordinator"))));
  const TlsFiles w1 = Issue("w1");
  TlsFiles w2 = stranger_.IssueTo(Folder("w2"));
  w2.ca = w1.ca;
  cluster_.UseTls(w1);
  ASSERT_OK(cluster_.StartWorker("w1", CallerTlsFlags(w1)));
  ASSERT_OK(cluster_.StartWorker("w2", CallerTlsFlags(w2)));
  v1::JobSpec spec = JobOn(2, 5);
  spec.mutable_retry()->set_max_retries(0);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(spec));
  EXPECT_TRUE(Await(
      [&] { return cluster_.Output().find("a peer cannot be called") != std::string::npos; }));
  ASSERT_OK_AND_ASSIGN(const v1::Job now, cluster_.GetJob(job.name()));
  EXPECT_NE(now.state(), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(now.last_step().step(), 0);
}

TEST_F(Tls, AWorkerSaysWhyItDoesNotJoin) {
  StartMutual(0);
  TlsFiles strange = stranger_.IssueTo(Folder("w1"));
  ASSERT_OK(cluster_.StartProgram(
      "w1", "weft-worker",
      {"--coordinator", cluster_.address(), "--name", "w1", "--state-dir",
       absl::StrCat(cluster_.directory(), "/w1"), "--threads", "1", "--tls-ca", strange.ca,
       "--tls-cert", strange.cert, "--tls-key", strange.key}));
  const auto says = [this](const std::string& words) {
    return Await([&] { return cluster_.Output().find(words) != std::string::npos; });
  };
  EXPECT_TRUE(says(absl::StrCat("its certificate is from no authority in ", strange.ca)));
  ReplaceFile(strange.ca, authority_.cert());
  EXPECT_TRUE(says(absl::StrCat("it does not accept the certificate in ", strange.cert)));
  // Once its files are right it joins, without a restart.
  authority_.IssueTo(Folder("w1"));
  EXPECT_TRUE(Await([&] { return cluster_.Cli({"get", "workers", "-o", "name"}).output != ""; }));
}

TEST_F(Tls, RenewedUnderLoadIsNoticedByNobody) {
  StartMutual(2);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(JobOn(2, kForever)));
  ASSERT_OK(cluster_.AwaitStep(job.name(), 5));
  const auto ranks = cluster_.Descendants("w1", "weft-rank");
  ASSERT_EQ(ranks.size(), 1U);
  ProgramResult watched;
  std::thread watcher([&] { watched = cluster_.Cli({"watch", job.name()}); });
  EXPECT_TRUE(
      Await([&] { return cluster_.Output().find("tiny-1  RUNNING") != std::string::npos; }));

  // Everything at once, the authority, too: connections that are there go on, new ones need the
  // new files.
  const TlsFiles old_client = Issue("old client");
  const TlsFiles server = stranger_.IssueTo(Folder("coordinator"));
  const TlsFiles client = stranger_.IssueTo(Folder("client"));
  for (const char* worker : {"w1", "w2"}) stranger_.IssueTo(Folder(worker));
  EXPECT_TRUE(Await([&] { return cluster_.Cli({"get", "jobs"}).exit_code == 0; }));
  EXPECT_THAT(RefusalOf(old_client), HasSubstr("its certificate is from no authority in "));
  cluster_.UseTls(client);
  ASSERT_OK_AND_ASSIGN(const v1::Job now, cluster_.GetJob(job.name()));
  ASSERT_OK(cluster_.AwaitStep(job.name(), now.last_step().step() + 10));
  EXPECT_THAT(cluster_.Output(), Not(HasSubstr("no connection to the coordinator; trying on")));

  // A coordinator that returns with the new files is found by agents that were never restarted.
  cluster_.Kill("coordinator", SIGKILL);
  ASSERT_OK(cluster_.StartCoordinator(MutualTlsFlags(server)));
  ASSERT_OK_AND_ASSIGN(const v1::Job later, cluster_.AwaitJob(job.name(), [&](const v1::Job& j) {
    return j.state() == v1::Job::STATE_RUNNING &&
           j.last_step().step() > now.last_step().step() + 10;
  }));
  EXPECT_EQ(later.generation(), 1);
  EXPECT_EQ(cluster_.Descendants("w1", "weft-rank"), ranks) << "the same process went on";
  EXPECT_EQ(cluster_.Cli({"cancel", job.name()}).exit_code, 0);
  watcher.join();
  EXPECT_EQ(watched.exit_code, 11) << watched.errors;
  EXPECT_EQ(watched.errors, "");
}

TEST_F(Tls, ExpiryIsAMetricThatFollowsARenewal) {
  const auto issue = [this](const std::string& name, int64_t until) {
    return authority_.IssueTo(Folder(name), {.until = absl::FromUnixSeconds(until)});
  };
  const auto tells = [](const std::string& address, int64_t until) {
    const std::string line =
        absl::StrCat("\nweft_tls_certificate_expiry_timestamp_seconds ", until, "\n");
    return Await([&] {
      const auto served = weft::testing::HttpGet(address, "/metrics");
      return served.ok() && served->find(line) != std::string::npos;
    });
  };
  ASSERT_OK(cluster_.StartCoordinator(MutualTlsFlags(issue("coordinator", 3'000'000'000))));
  cluster_.UseTls(Issue("client"));
  ASSERT_OK(cluster_.StartWorker("w1", CallerTlsFlags(issue("w1", 3'100'000'000))));
  EXPECT_TRUE(tells(cluster_.coordinator_metrics(), 3'000'000'000));
  const std::string worker = cluster_.WorkerMetrics("w1");
  EXPECT_TRUE(tells(worker, 3'100'000'000));
  issue("coordinator", 3'200'000'000);
  issue("w1", 3'300'000'000);
  EXPECT_TRUE(tells(cluster_.coordinator_metrics(), 3'200'000'000));
  EXPECT_TRUE(tells(worker, 3'300'000'000));
}

TEST_F(Tls, FilesThatDoNotDoStopAProgramWithOneSentence) {
  TlsFiles files = Issue("files");
  struct Case {
    const char* what;
    std::function<void()> spoil;
    std::string says;
  };
  const std::vector<Case> cases = {
      {"an expired certificate",
       [&] {
         authority_.IssueTo(Folder("files"), {.names = {},
                                              .from = absl::Now() - absl::Hours(2),
                                              .until = absl::Now() - absl::Hours(1)});
       },
       absl::StrCat("tls_cert: ", files.cert, ": the certificate has expired at ")},
      {"a key of another certificate", [&] { ReplaceFile(files.key, authority_.Issue().key); },
       absl::StrCat("tls_key: ", files.key, ": is not the key of the certificate in ", files.cert)},
      {"a key that is none", [&] { ReplaceFile(files.key, "-----BEGIN\n"); },
       absl::StrCat("tls_key: ", files.key, ": holds no private key")},
      {"a file that is not there", [&] { std::filesystem::remove(files.key); },
       absl::StrCat("tls_key: cannot open ", files.key, ": No such file or directory")},
  };
  for (const Case& one : cases) {
    Issue("files");
    one.spoil();
    const auto expect = [&](const std::string& program, const std::vector<std::string>& arguments) {
      const ProgramResult ended = cluster_.RunProgram(program, arguments);
      EXPECT_NE(ended.exit_code, 0) << one.what;
      EXPECT_THAT(ended.errors, HasSubstr(absl::StrCat(program, ": ", one.says))) << one.what;
    };
    std::vector<std::string> arguments = MutualTlsFlags(files);
    arguments.insert(arguments.end(), {"--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
                                       "--state-dir", Folder("state")});
    expect("weft-coordinator", arguments);
    arguments = CallerTlsFlags(files);
    arguments.insert(arguments.end(), {"--coordinator", "127.0.0.1:1", "--name", "w", "--state-dir",
                                       Folder("worker-state")});
    expect("weft-worker", arguments);
    arguments = CallerTlsFlags(files);
    arguments.insert(arguments.end(), {"--address", "127.0.0.1:1", "get", "jobs"});
    expect("weft", arguments);
  }
}

TEST_F(Tls, AContextHoldsItsFilesAndFlagsComeBeforeThem) {
  StartMutual(0);
  const TlsFiles files = Issue("person");
  const std::map<std::string, std::string> home = {{"XDG_CONFIG_HOME", cluster_.directory()},
                                                   {"WEFT_TLS_CA", "/of/another/cluster"}};
  std::vector<std::string> set = {"context", "set", "lab", cluster_.address()};
  const std::vector<std::string> flags = CallerTlsFlags(files);
  set.insert(set.end(), flags.begin(), flags.end());
  const ProgramResult made = cluster_.RunProgram("weft", set, home);
  EXPECT_EQ(made.output, "context/lab created, in use\n") << made.errors;
  EXPECT_EQ(cluster_.RunProgram("weft", {"get", "workers"}, home).exit_code, 0);
  EXPECT_THAT(cluster_.RunProgram("weft", {"context", "list"}, home).output, HasSubstr("mutual"));
  const ProgramResult misled = cluster_.RunProgram(
      "weft", {"get", "workers", "--tls-ca", stranger_.IssueTo(Folder("stranger")).ca}, home);
  EXPECT_THAT(misled.errors, HasSubstr("its certificate is from no authority in"));
  const ProgramResult named =
      cluster_.RunProgram("weft", {"get", "workers", "--tls-name", "weft.lab"}, home);
  EXPECT_THAT(named.errors, HasSubstr("its certificate is for 127.0.0.1, localhost, not for "
                                      "weft.lab"));
}

TEST_F(Tls, OfTheEnvironmentIsNothingForALocalCluster) {
  const std::string job = absl::StrCat(cluster_.directory(), "/job.yaml");
  std::ofstream(job) << "name: local\n"
                        "model: {width: 16, layers: 1, mlp_width: 32, mixers: [{delta: {heads: "
                        "1}}]}\n"
                        "data: {induction_heads: {}}\n"
                        "training: {steps: 2, batch_size: 4, sequence_length: 64, shards: 4}\n";
  const ProgramResult run =
      cluster_.RunProgram("weft", {"run", job, "--state-dir", Folder("local"), "--workers", "1"},
                          {{"WEFT_TLS_CA", "/nowhere"},
                           {"WEFT_COORDINATOR_TLS_CERT", "/nowhere"},
                           {"WEFT_WORKER_TLS_CA", "/nowhere"}});
  EXPECT_EQ(run.exit_code, 0) << run.output << run.errors;
}

TEST_F(Tls, AClientWithFilesTellsThatAServerIsPlain) {
  ASSERT_OK(cluster_.StartCoordinator());
  TlsFiles client;
  client.ca = Issue("client").ca;
  EXPECT_EQ(RefusalOf(client), NoConnection("it speaks no TLS: tls_ca must not be given\n"));
  cluster_.UseTls({});
  EXPECT_EQ(cluster_.Cli({"get", "workers"}).exit_code, 0);
}

}  // namespace
}  // namespace weft
