// Real relays: mpirun, orted and weft-relay as processes on this machine. The contract of Exchange,
// and what becomes of a gang when one of them is killed or stopped.

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/testing/await.h"
#include "tests/testing/status_matchers.h"
#include "tests/worker/comm/exchange_contract.h"
#include "tests/worker/comm/host_tensor.h"
#include "tests/worker/comm/relay_process_gang.h"

namespace weft::testing {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using worker::Exchange;
using worker::ReduceOp;

GangKind RelayProcesses(const std::vector<int>& hosts) {
  return {absl::StrCat("Hosts", absl::StrJoin(hosts, "and")),
          [hosts] { return std::make_unique<RelayProcessGang>(hosts); },
          /*chunk_elements=*/(2 << 20) / 4};
}

const GangKind kGangs[] = {RelayProcesses({1, 1}), RelayProcesses({1, 2, 1})};
INSTANTIATE_TEST_SUITE_P(RelayProcesses, ExchangeContract, ::testing::ValuesIn(kGangs), GangName);
INSTANTIATE_TEST_SUITE_P(RelayProcesses, ExchangeGangContract, ::testing::ValuesIn(kGangs),
                         GangName);

// Polls until nothing of the gang runs any more.
std::vector<pid_t> ProcessesLeft(const RelayProcessGang& gang) {
  weft::testing::Await([&] { return gang.Processes().empty(); });
  return gang.Processes();
}

struct Loss {
  std::string name;
  std::string program;  // on host 1; "mpirun" for mpirun itself
  int signal;
};

class LosingAProcess : public ::testing::TestWithParam<Loss> {};

absl::Status ReduceOnes(int ranks, Exchange& exchange, absl::Time deadline) {
  kernels::Tensor bucket = HostTensorOf<int32_t>(kernels::DType::kI32, {1, 1, 1});
  absl::Status done = exchange.Reduce(bucket, ReduceOp::kSum, deadline);
  if (!done.ok()) return done;
  EXPECT_THAT(ValuesOf<int32_t>(bucket), Each(ranks));
  return done;
}

TEST(RelayProcesses, ManyHostsKeepTheirOrder) {
  // Twelve: names of hosts with one and with two digits. Relays check that they are who they
  // should.
  RelayProcessGang gang(std::vector<int>(12, 1));
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    kernels::Tensor token = HostTensorOf<int32_t>(kernels::DType::kI32, {rank});
    const absl::Status sent = exchange.Broadcast(token, 11, Soon());
    EXPECT_EQ(ValuesOf<int32_t>(token), std::vector<int32_t>{11});
    return sent.ok() ? ReduceOnes(12, exchange, Soon()) : sent;
  };
  EXPECT_THAT(gang.RunGeneration(1, body), Each(IsOk()));
}

TEST(RelayProcesses, StoppedDaemonsDoNotMatterAndAreCleanedUp) {
  RelayProcessGang gang({1, 1});
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    for (int i = 0; i < 20; ++i) {
      const absl::Status done = ReduceOnes(2, exchange, Soon());
      if (!done.ok()) return done;
      if (rank == 0 && i == 5) {
        for (const pid_t victim : {gang.ProcessOf(1, "orted"), gang.mpirun()}) {
          EXPECT_EQ(kill(victim, SIGSTOP), 0);
        }
      }
    }
    return absl::OkStatus();
  };
  EXPECT_THAT(gang.RunGeneration(1, body), Each(IsOk()));
  gang.EndGeneration();
  EXPECT_THAT(ProcessesLeft(gang), IsEmpty());
  EXPECT_THAT(gang.Leftovers(), IsEmpty());
}

TEST(RelayProcesses, AHostThatCannotStartItsDaemonEndsTheStart) {
  RelayProcessGang gang({1, 1});
  gang.set_requests(RelayProcessGang::Requests::kRefuse);
  const auto never = [](int, Exchange&) { return absl::OkStatus(); };
  EXPECT_THAT(gang.RunGeneration(1, never),
              Each(StatusIs(absl::StatusCode::kAborted, HasSubstr("mpirun has ended"))));
  gang.EndGeneration();
  EXPECT_THAT(ProcessesLeft(gang), IsEmpty());
  EXPECT_THAT(gang.Leftovers(), IsEmpty());
}

TEST(RelayProcesses, AStartThatHangsIsADeadlineOfPrepare) {
  RelayProcessGang gang({1, 1});
  gang.set_requests(RelayProcessGang::Requests::kIgnore);  // mpirun would wait for ever
  gang.StartGeneration(1);
  EXPECT_THAT(gang.exchange(0).Prepare(gang.MembershipOf(0), absl::Now() + absl::Seconds(1)),
              StatusIs(absl::StatusCode::kDeadlineExceeded,
                       HasSubstr("the relay of this host to meet the relays")));
  gang.EndGeneration();
  EXPECT_THAT(ProcessesLeft(gang), IsEmpty());
  EXPECT_THAT(gang.Leftovers(), IsEmpty());
}

TEST(RelayProcesses, ARankOfAnotherGenerationIsRefused) {
  RelayProcessGang gang({1, 1});
  gang.StartGeneration(7);
  worker::Membership late = gang.MembershipOf(0);
  late.generation = worker::Generation(6);
  EXPECT_THAT(gang.exchange(0).Prepare(late, Soon()),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("is of generation 7")));
}

// Started by the test below as a process of its own, to be killed.
TEST(KilledAgent, DISABLED_RunsAGangUntilItIsKilled) {
  RelayProcessGang gang({1, 1, 1});
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    for (int i = 0;; ++i) {
      const absl::Status done = ReduceOnes(3, exchange, Soon());
      if (!done.ok()) return done;
      if (rank == 0 && i == 5) {
        std::printf("running in %s\n", gang.scratch().path().c_str());
        std::fflush(stdout);
      }
    }
  };
  gang.RunGeneration(1, body);
}

TEST(KilledAgent, TakesItsGangAlong) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const pid_t agent = fork();
  ASSERT_GE(agent, 0);
  if (agent == 0) {
    dup2(ends[1], 1);
    execl("/proc/self/exe", "agent", "--gtest_also_run_disabled_tests",
          "--gtest_filter=KilledAgent.DISABLED_*", nullptr);
    _exit(127);
  }
  close(ends[1]);
  std::string output;
  std::array<char, 512> buffer{};
  const std::string mark = "running in ";
  while (output.find('\n', output.find(mark)) == std::string::npos) {
    const ssize_t got = read(ends[0], buffer.data(), buffer.size());
    ASSERT_GT(got, 0) << output;
    output.append(buffer.data(), static_cast<size_t>(got));
  }
  close(ends[0]);
  kill(agent, SIGKILL);
  waitpid(agent, nullptr, 0);
  const size_t begin = output.find(mark) + mark.size();
  const std::filesystem::path scratch = output.substr(begin, output.find('\n', begin) - begin);

  const std::string socket = "WEFT_AGENT_SOCKET=" + scratch.string();
  const std::string temporary = "TMPDIR=" + scratch.string();
  const auto left = [&] {
    std::vector<pid_t> all = ProcessesWithVariable(socket);
    const std::vector<pid_t> more = ProcessesWithVariable(temporary);
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  weft::testing::Await([&] { return left().empty(); });
  EXPECT_THAT(left(), IsEmpty());

  // Files are the next agent's to remove.
  ASSERT_OK(worker::RelaySite::RemoveLeftovers(scratch));
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(scratch)) {
    files.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(files, ElementsAre("agent.sock"));
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
    EXPECT_THAT(entry.path().string(), Not(HasSubstr(absl::StrCat(".", agent, "."))));
  }
  std::filesystem::remove_all(scratch);
}

// Every rank exchanges in a loop; after some rounds one process is hit. All ranks must return an
// error by their deadline (a second or two after the loss), and nothing may stay behind.
TEST_P(LosingAProcess, EndsTheGenerationForEveryRankAndLeavesNothing) {
  constexpr absl::Duration kCallLimit = absl::Seconds(3);
  RelayProcessGang gang({1, 1, 1});
  std::atomic<int> rounds{0};
  std::atomic<int64_t> lost_at{0};
  std::vector<absl::Duration> noticed(3);
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    kernels::Tensor bucket = NewHostTensor(kernels::DType::kI32, {100'000});
    while (true) {
      const absl::Status done = exchange.Reduce(bucket, ReduceOp::kSum, absl::Now() + kCallLimit);
      if (!done.ok()) {
        noticed[static_cast<size_t>(rank)] = absl::Now() - absl::FromUnixNanos(lost_at.load());
        return done;
      }
      if (rank == 0 && ++rounds == 20) {
        const pid_t victim =
            GetParam().program == "mpirun" ? gang.mpirun() : gang.ProcessOf(1, GetParam().program);
        EXPECT_GT(victim, 0);
        lost_at = absl::ToUnixNanos(absl::Now());
        kill(victim, GetParam().signal);
      }
    }
  };
  EXPECT_THAT(gang.RunGeneration(1, body), Each(Not(IsOk())));
  EXPECT_GE(rounds, 20);
  for (size_t rank = 0; rank < noticed.size(); ++rank) {
    EXPECT_LT(noticed[rank], kCallLimit + absl::Seconds(1)) << "rank " << rank;
    RecordProperty(absl::StrCat("noticed_ms_rank_", rank),
                   absl::StrCat(absl::ToInt64Milliseconds(noticed[rank])));
  }
  gang.EndGeneration();
  EXPECT_THAT(ProcessesLeft(gang), IsEmpty());
  EXPECT_THAT(gang.Leftovers(), IsEmpty());
  // And the next generation works.
  const auto once = [&](int /*rank*/, Exchange& exchange) -> absl::Status {
    kernels::Tensor bucket = HostTensorOf<int32_t>(kernels::DType::kI32, {14});
    const absl::Status done = exchange.Reduce(bucket, ReduceOp::kSum, Soon());
    EXPECT_EQ(ValuesOf<int32_t>(bucket), std::vector<int32_t>{42});
    return done;
  };
  EXPECT_THAT(gang.RunGeneration(2, once), Each(IsOk()));
}

INSTANTIATE_TEST_SUITE_P(Relays, LosingAProcess,
                         ::testing::Values(Loss{"KilledRelay", "weft-relay", SIGKILL},
                                           Loss{"StoppedRelay", "weft-relay", SIGSTOP},
                                           Loss{"KilledOrted", "orted", SIGKILL},
                                           Loss{"KilledMpirun", "mpirun", SIGKILL}),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace weft::testing
