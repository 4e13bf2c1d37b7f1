// Real relays: mpirun, orted and weft-relay as processes on this machine. The contract of Exchange,
// and what becomes of a gang when one of them is killed or stopped.

#include <signal.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/testing/status_matchers.h"
#include "tests/worker/comm/exchange_contract.h"
#include "tests/worker/comm/host_tensor.h"
#include "tests/worker/comm/relay_process_gang.h"

namespace weft::testing {
namespace {

using ::testing::Each;
using ::testing::IsEmpty;
using ::testing::Not;
using worker::Exchange;
using worker::ReduceOp;

GangKind RelayProcesses(const std::vector<int>& hosts) {
  return {absl::StrCat("Hosts", absl::StrJoin(hosts, "and")),
          [hosts] { return std::make_unique<RelayProcessGang>(hosts); },
          /*chunk_elements=*/(2 << 20) / 4};
}

const GangKind kGangs[] = {RelayProcesses({1, 1}), RelayProcesses({1, 2, 1}),
                           RelayProcesses({1, 1, 1, 1})};
INSTANTIATE_TEST_SUITE_P(RelayProcesses, ExchangeContract, ::testing::ValuesIn(kGangs), GangName);
INSTANTIATE_TEST_SUITE_P(RelayProcesses, ExchangeGangContract, ::testing::ValuesIn(kGangs),
                         GangName);

// Polls until nothing of the gang runs any more.
std::vector<pid_t> ProcessesLeft(const RelayProcessGang& gang) {
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (!gang.Processes().empty() && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  return gang.Processes();
}

struct Loss {
  std::string name;
  std::string program;  // on host 1; "mpirun" for mpirun itself
  int signal;
};

class LosingAProcess : public ::testing::TestWithParam<Loss> {};

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
                                           Loss{"StoppedOrted", "orted", SIGSTOP},
                                           Loss{"KilledMpirun", "mpirun", SIGKILL}),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace weft::testing
