// The contract on the transports that need no other process: local, in process, and the relay's
// channel and loop with threads in place of MPI. Also what they have in common: equal bits.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/device/cpu/cpu_device.h"
#include "tests/testing/late_device.h"
#include "tests/testing/status_matchers.h"
#include "tests/worker/comm/exchange_contract.h"
#include "tests/worker/comm/host_tensor.h"
#include "tests/worker/comm/relay_thread_gang.h"
#include "worker/comm/faulty_exchange.h"
#include "worker/comm/in_process_exchange.h"
#include "worker/comm/local_exchange.h"
#include "worker/comm/staged_exchange.h"

namespace weft::testing {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using worker::Exchange;
using worker::ReduceOp;

// Local and in-process gangs: they need nothing but the exchanges.
class PlainGang final : public ExchangeGang {
 public:
  explicit PlainGang(std::vector<std::unique_ptr<Exchange>> exchanges)
      : exchanges_(std::move(exchanges)) {}
  [[nodiscard]] int ranks() const override { return static_cast<int>(exchanges_.size()); }
  void StartGeneration(int64_t generation) override {
    generation_ = worker::Generation(generation);
  }
  [[nodiscard]] worker::Membership MembershipOf(int rank) const override {
    return {"contract", generation_, rank, ranks(), 0, ""};
  }
  Exchange& exchange(int rank) override { return *exchanges_[static_cast<size_t>(rank)]; }

 private:
  std::vector<std::unique_ptr<Exchange>> exchanges_;
  worker::Generation generation_;
};

std::unique_ptr<ExchangeGang> NewLocalGang() {
  std::vector<std::unique_ptr<Exchange>> exchanges;
  exchanges.push_back(std::make_unique<worker::LocalExchange>());
  return std::make_unique<PlainGang>(std::move(exchanges));
}

std::unique_ptr<ExchangeGang> NewInProcessGang(int ranks) {
  const auto hub = std::make_shared<worker::InProcessHub>();
  std::vector<std::unique_ptr<Exchange>> exchanges;
  for (int rank = 0; rank < ranks; ++rank) {
    exchanges.push_back(std::make_unique<worker::InProcessExchange>(hub));
  }
  return std::make_unique<PlainGang>(std::move(exchanges));
}

GangKind InProcess(int ranks) {
  return {absl::StrCat("InProcess", ranks), [ranks] { return NewInProcessGang(ranks); }};
}

// Ranks of each host.
GangKind RelayThreads(const std::vector<int>& hosts) {
  return {absl::StrCat("RelayHosts", absl::StrJoin(hosts, "and")),
          [hosts] { return std::make_unique<RelayThreadGang>(hosts, /*chunk_bytes=*/1024); }};
}

INSTANTIATE_TEST_SUITE_P(Alone, ExchangeContract,
                         ::testing::Values(GangKind{"Local", NewLocalGang}, InProcess(1),
                                           RelayThreads({1})),
                         GangName);

const GangKind kGangs[] = {InProcess(2),           InProcess(3),      InProcess(4),
                           RelayThreads({1, 1}),   RelayThreads({3}), RelayThreads({1, 1, 1, 1}),
                           RelayThreads({2, 1, 3})};
INSTANTIATE_TEST_SUITE_P(Gangs, ExchangeContract, ::testing::ValuesIn(kGangs), GangName);
INSTANTIATE_TEST_SUITE_P(Gangs, ExchangeGangContract, ::testing::ValuesIn(kGangs), GangName);

// Twelve shards with fixed contributions, dealt to the ranks in order: the sum of all as bits.
std::vector<int32_t> SumOfShards(ExchangeGang& gang) {
  constexpr int kShards = 12;
  constexpr size_t kElements = 3001;
  std::vector<std::vector<int32_t>> sums(static_cast<size_t>(gang.ranks()));
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    kernels::Tensor bucket = NewHostTensor(kernels::DType::kI32, {kElements});
    for (int shard = 0; shard < kShards; ++shard) {
      if (shard * gang.ranks() / kShards != rank) continue;
      for (size_t i = 0; i < kElements; ++i) {
        bucket.data<int32_t>()[i] +=
            static_cast<int32_t>(((i * 2654435761u + 977u * shard) >> 5) & 0xffffff);
      }
    }
    const absl::Status reduced = exchange.Reduce(bucket, ReduceOp::kSum, Soon());
    sums[static_cast<size_t>(rank)] = ValuesOf<int32_t>(bucket);
    return reduced;
  };
  EXPECT_THAT(gang.RunGeneration(1, body), Each(IsOk()));
  EXPECT_THAT(sums, Each(sums[0]));
  return sums[0];
}

TEST(Exchange, EveryTransportAndGroupingGivesTheSameBits) {
  const std::vector<int32_t> alone = SumOfShards(*NewLocalGang());
  for (const int ranks : {2, 3, 4, 6}) {
    EXPECT_EQ(SumOfShards(*NewInProcessGang(ranks)), alone) << ranks << " ranks in process";
  }
  for (const std::vector<int>& hosts :
       std::vector<std::vector<int>>{{1}, {2}, {1, 1}, {1, 2}, {2, 2}, {4}, {1, 1, 1, 3}}) {
    RelayThreadGang gang(hosts, /*chunk_bytes=*/4096);
    EXPECT_EQ(SumOfShards(gang), alone) << "ranks of hosts " << absl::StrJoin(hosts, " ");
  }
}

TEST(LocalExchange, ServesOneRankOnly) {
  worker::LocalExchange exchange;
  EXPECT_THAT(exchange.Prepare({"job", worker::Generation(1), 0, 2, 0, ""}, Soon()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not 2")));
}

TEST(InProcessExchange, ARankOfAnOlderGenerationIsSentAway) {
  const auto hub = std::make_shared<worker::InProcessHub>();
  worker::InProcessExchange old_one(hub);
  worker::InProcessExchange new_one(hub);
  ASSERT_OK(old_one.Prepare({"job", worker::Generation(1), 0, 2, 0, ""}, Soon()));
  ASSERT_OK(new_one.Prepare({"job", worker::Generation(2), 1, 2, 0, ""}, Soon()));
  kernels::Tensor bucket = NewHostTensor(kernels::DType::kI32, {1});
  EXPECT_THAT(old_one.Reduce(bucket, ReduceOp::kSum, Soon()),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("the gang is in generation 2")));
}

TEST(StagedExchange, CarriesWhatLiesOnADevice) {
  const auto hub = std::make_shared<worker::InProcessHub>();
  std::vector<std::unique_ptr<kernels::Device>> devices;
  std::vector<std::unique_ptr<Exchange>> exchanges;
  for (int rank = 0; rank < 2; ++rank) {
    ASSERT_OK_AND_ASSIGN(auto device, kernels::NewCpuDevice({.threads = 1}));
    ASSERT_OK_AND_ASSIGN(
        auto staged,
        worker::StagedExchange::Create(std::make_unique<worker::InProcessExchange>(hub), *device));
    devices.push_back(std::move(device));
    exchanges.push_back(std::move(staged));
  }
  PlainGang gang(std::move(exchanges));
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    kernels::Device& device = *devices[static_cast<size_t>(rank)];
    // A small operand after a large one: the staging memory is longer then.
    for (const int64_t count : {1000, 3}) {
      auto bucket = kernels::NewTensor(device, kernels::DType::kI32, {count});
      if (!bucket.ok()) return bucket.status();
      std::fill_n(bucket->data<int32_t>(), count, 10 + rank);
      absl::Status done = exchange.Reduce(*bucket, ReduceOp::kSum, Soon());
      if (!done.ok()) return done;
      EXPECT_THAT(ValuesOf<int32_t>(*bucket), Each(21));
      std::fill_n(bucket->data<int32_t>(), count, rank);
      done = exchange.Broadcast(*bucket, 1, Soon());
      if (!done.ok()) return done;
      EXPECT_THAT(ValuesOf<int32_t>(*bucket), Each(1));
    }
    auto elsewhere =
        kernels::NewTensor(*devices[static_cast<size_t>(1 - rank)], kernels::DType::kI32, {1});
    if (!elsewhere.ok()) return elsewhere.status();
    EXPECT_THAT(exchange.Reduce(*elsewhere, ReduceOp::kSum, Soon()),
                StatusIs(absl::StatusCode::kInvalidArgument));
    return absl::OkStatus();
  };
  EXPECT_THAT(gang.RunGeneration(1, body), Each(IsOk()));
}

TEST(StagedExchange, ReturnsWhenTheResultIsThere) {
  LateDevice device;
  ASSERT_OK_AND_ASSIGN(auto exchange, worker::StagedExchange::Create(
                                          std::make_unique<worker::LocalExchange>(), device));
  ASSERT_OK(exchange->Prepare({"job", worker::Generation(1), 0, 1, 0, ""}, Soon()));
  ASSERT_OK_AND_ASSIGN(auto bucket, kernels::NewTensor(device, kernels::DType::kI32, {3}));
  std::fill_n(bucket.data<int32_t>(), 3, 5);
  const auto reduce = [&] { return exchange->Reduce(bucket, ReduceOp::kSum, Soon()); };
  ASSERT_OK(reduce());
  std::fill_n(bucket.data<int32_t>(), 3, 7);  // nothing late may come upon it
  ASSERT_OK(reduce());
  EXPECT_THAT(ValuesOf<int32_t>(bucket), Each(7));
}

TEST(FaultyExchange, FailsTheCallThatItIsToldToAndTellsTheOthers) {
  const auto hub = std::make_shared<worker::InProcessHub>();
  std::vector<std::unique_ptr<Exchange>> exchanges;
  exchanges.push_back(std::make_unique<worker::FaultyExchange>(
      std::make_unique<worker::InProcessExchange>(hub),
      [](int call) { return call == 3 ? absl::UnavailableError("cut") : absl::OkStatus(); }));
  exchanges.push_back(std::make_unique<worker::InProcessExchange>(hub));
  PlainGang gang(std::move(exchanges));
  std::vector<int> done(2);
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    kernels::Tensor bucket = NewHostTensor(kernels::DType::kI32, {5});
    while (true) {
      absl::Status reduced = exchange.Reduce(bucket, ReduceOp::kSum, Soon());
      if (!reduced.ok()) return reduced;
      ++done[static_cast<size_t>(rank)];
    }
  };
  const std::vector<absl::Status> results = gang.RunGeneration(1, body);
  EXPECT_THAT(results[0], StatusIs(absl::StatusCode::kUnavailable, HasSubstr("cut")));
  EXPECT_THAT(results[1], StatusIs(absl::StatusCode::kAborted, HasSubstr("cut")));
  EXPECT_THAT(done, Each(2));
}

}  // namespace
}  // namespace weft::testing
