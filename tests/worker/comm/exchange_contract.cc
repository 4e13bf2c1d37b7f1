#include "tests/worker/comm/exchange_contract.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <latch>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"
#include "tests/worker/comm/host_tensor.h"

namespace weft::testing {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using worker::Exchange;
using worker::ReduceOp;

// Any bits, the same in every run; high ones too, so that sums wrap.
int32_t Value(int rank, int64_t index, int call) {
  uint64_t x = static_cast<uint64_t>(index) * 0x9e3779b97f4a7c15u +
               static_cast<uint64_t>(rank * 7919 + call) * 0xbf58476d1ce4e5b9u;
  x ^= x >> 31;
  x *= 0x94d049bb133111ebu;
  return static_cast<int32_t>(x >> 32);
}

std::vector<int32_t> Contribution(int rank, int64_t count, int call) {
  std::vector<int32_t> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = Value(rank, i, call);
  return values;
}

std::vector<int32_t> Expected(int ranks, int64_t count, int call, ReduceOp op) {
  std::vector<int32_t> result = Contribution(0, count, call);
  for (int rank = 1; rank < ranks; ++rank) {
    for (int64_t i = 0; i < count; ++i) {
      int32_t& into = result[static_cast<size_t>(i)];
      const int32_t value = Value(rank, i, call);
      into = op == ReduceOp::kMax
                 ? std::max(into, value)
                 : static_cast<int32_t>(static_cast<uint32_t>(into) + static_cast<uint32_t>(value));
    }
  }
  return result;
}

absl::Status ReduceAndCompare(int ranks, int rank, Exchange& exchange, int64_t count, int call,
                              ReduceOp op) {
  kernels::Tensor bucket = HostTensorOf(kernels::DType::kI32, Contribution(rank, count, call));
  const absl::Status reduced = exchange.Reduce(bucket, op, Soon());
  if (!reduced.ok()) return reduced;
  if (ValuesOf<int32_t>(bucket) == Expected(ranks, count, call, op)) return reduced;
  return absl::DataLossError(absl::StrCat("wrong elements on rank ", rank, ", count ", count));
}

std::vector<int64_t> Sizes(int64_t chunk) {
  return {1, 2, 3, 1000, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 * chunk + 5};
}

kernels::Tensor Numbers(std::initializer_list<int64_t> dims) {
  return NewHostTensor(kernels::DType::kI32, kernels::Shape(dims));
}

TEST_P(ExchangeContract, ReducesExactlyWhateverTheSize) {
  EXPECT_THAT(gang_->RunGeneration(1,
                                   [&](int rank, Exchange& exchange) -> absl::Status {
                                     int call = 0;
                                     for (const int64_t size : Sizes(GetParam().chunk_elements)) {
                                       for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
                                         absl::Status done = ReduceAndCompare(
                                             ranks(), rank, exchange, size, ++call, op);
                                         if (!done.ok()) return done;
                                       }
                                     }
                                     return absl::OkStatus();
                                   }),
              Each(IsOk()));
}

TEST_P(ExchangeContract, AnEmptyBucketIsACallLikeAnyOther) {
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    kernels::Tensor empty = Numbers({0});
    absl::Status done = exchange.Reduce(empty, ReduceOp::kSum, Soon());
    return done.ok() ? ReduceAndCompare(ranks(), rank, exchange, 5, 1, ReduceOp::kSum) : done;
  };
  EXPECT_THAT(gang_->RunGeneration(1, body), Each(IsOk()));
}

TEST_P(ExchangeContract, BroadcastsTheBitsOfTheRoot) {
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    for (int root = 0; root < ranks(); ++root) {
      for (const int64_t count : Sizes(GetParam().chunk_elements)) {
        // Two bytes an element: chunks end within words, and any bits are allowed (NaNs too).
        std::vector<uint16_t> values(static_cast<size_t>(count));
        for (size_t i = 0; i < values.size(); ++i) {
          values[i] = static_cast<uint16_t>(Value(rank, static_cast<int64_t>(i), root));
        }
        kernels::Tensor tensor = HostTensorOf(kernels::DType::kBf16, values);
        const absl::Status sent = exchange.Broadcast(tensor, root, Soon());
        if (!sent.ok()) return sent;
        for (size_t i = 0; i < values.size(); ++i) {
          values[i] = static_cast<uint16_t>(Value(root, static_cast<int64_t>(i), root));
        }
        if (ValuesOf<uint16_t>(tensor) != values) return absl::DataLossError("wrong bits");
      }
    }
    return absl::OkStatus();
  };
  EXPECT_THAT(gang_->RunGeneration(1, body), Each(IsOk()));
}

TEST_P(ExchangeContract, MixedCallsKeepTheirOrder) {
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    for (int call = 0; call < 50; ++call) {
      absl::Status done = ReduceAndCompare(ranks(), rank, exchange, 1 + call * 13 % 300, call,
                                           call % 2 == 0 ? ReduceOp::kSum : ReduceOp::kMax);
      if (!done.ok()) return done;
      kernels::Tensor flag = HostTensorOf<double>(kernels::DType::kF64, {rank + call / 8.0});
      done = exchange.Broadcast(flag, call % ranks(), Soon());
      if (!done.ok()) return done;
      if (*flag.data<double>() != call % ranks() + call / 8.0) return absl::DataLossError("flag");
    }
    return absl::OkStatus();
  };
  EXPECT_THAT(gang_->RunGeneration(1, body), Each(IsOk()));
}

TEST_P(ExchangeGangContract, AMissingRankIsADeadlineWithTheWholeContext) {
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    const absl::Status first = ReduceAndCompare(ranks(), rank, exchange, 7, 1, ReduceOp::kSum);
    if (!first.ok() || rank != 0) return first;
    kernels::Tensor bucket = Numbers({3, 4});
    return exchange.Reduce(bucket, ReduceOp::kMax, absl::Now() + absl::Milliseconds(50));
  };
  const std::vector<absl::Status> results = gang_->RunGeneration(1, body);
  EXPECT_THAT(results[0], StatusIs(absl::StatusCode::kDeadlineExceeded,
                                   AllOf(HasSubstr("reduce max i32[3, 4] (48 bytes), sequence 2"),
                                         HasSubstr("job contract, generation 1"),
                                         HasSubstr(absl::StrCat("rank 0 of ", ranks())))));
}

TEST_P(ExchangeGangContract, ADeadlineThatHasPassedDoesNotWait) {
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    if (rank != 0) return absl::OkStatus();
    kernels::Tensor bucket = Numbers({1});
    return exchange.Reduce(bucket, ReduceOp::kSum, absl::InfinitePast());
  };
  EXPECT_THAT(gang_->RunGeneration(1, body)[0], StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST_P(ExchangeGangContract, TheFirstFailureIsFinalAndTheOthersHearOfIt) {
  // Rank 0 comes alone and gives up; the others come then, with all the time in the world.
  std::latch gave_up(1);
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    kernels::Tensor bucket = Numbers({9});
    if (rank != 0) gave_up.wait();
    const absl::Time deadline = rank == 0 ? absl::InfinitePast() : Soon();
    const absl::Status failed = exchange.Reduce(bucket, ReduceOp::kSum, deadline);
    if (rank == 0) gave_up.count_down();
    // It stays so, for any call.
    EXPECT_EQ(exchange.Reduce(bucket, ReduceOp::kSum, Soon()), failed);
    EXPECT_EQ(exchange.Broadcast(bucket, 0, Soon()), failed);
    return failed;
  };
  const std::vector<absl::Status> results = gang_->RunGeneration(1, body);
  EXPECT_THAT(results[0], StatusIs(absl::StatusCode::kDeadlineExceeded));
  for (size_t rank = 1; rank < results.size(); ++rank) {
    EXPECT_THAT(results[rank], StatusIs(absl::StatusCode::kAborted));
  }
}

TEST_P(ExchangeGangContract, AbortWakesAWaitingRank) {
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    if (rank != 0) return absl::OkStatus();  // never comes
    std::thread aborting([&] { exchange.Abort(absl::CancelledError("the job was cancelled")); });
    kernels::Tensor bucket = Numbers({9});
    const absl::Status result = exchange.Reduce(bucket, ReduceOp::kSum, Soon());
    aborting.join();
    return result;
  };
  EXPECT_THAT(gang_->RunGeneration(1, body)[0],
              StatusIs(absl::StatusCode::kAborted, HasSubstr("the job was cancelled")));
}

TEST_P(ExchangeContract, AbortBeforeACallEndsItToo) {
  const auto body = [&](int /*rank*/, Exchange& exchange) -> absl::Status {
    exchange.Abort(absl::CancelledError("first"));
    exchange.Abort(absl::CancelledError("second"));
    kernels::Tensor bucket = Numbers({9});
    return exchange.Reduce(bucket, ReduceOp::kSum, Soon());
  };
  // A rank may hear of another rank's abort while it still prepares, and a late one may find the
  // transport gone already.
  const std::vector<absl::Status> results = gang_->RunGeneration(1, body);
  EXPECT_THAT(results, Each(AnyOf(StatusIs(absl::StatusCode::kAborted),
                                  StatusIs(absl::StatusCode::kUnavailable))));
  EXPECT_THAT(results, Contains(StatusIs(absl::StatusCode::kAborted)));
}

TEST_P(ExchangeContract, ANewGenerationLeadsOutOfAFailure) {
  gang_->RunGeneration(1, [&](int /*rank*/, Exchange& exchange) -> absl::Status {
    exchange.Abort(absl::UnavailableError("a host is lost"));
    return absl::OkStatus();
  });
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    return ReduceAndCompare(ranks(), rank, exchange, 100, 1, ReduceOp::kSum);
  };
  EXPECT_THAT(gang_->RunGeneration(2, body), Each(IsOk()));
}

TEST_P(ExchangeContract, AStaleGenerationIsRefused) {
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    worker::Membership stale = gang_->MembershipOf(rank);
    EXPECT_THAT(exchange.Prepare(stale, Soon()),
                StatusIs(absl::StatusCode::kAborted, HasSubstr("stale")));
    stale.generation = worker::Generation(4);
    EXPECT_THAT(exchange.Prepare(stale, Soon()),
                StatusIs(absl::StatusCode::kAborted, HasSubstr("generation 4 is stale")));
    // The present generation is not harmed.
    return ReduceAndCompare(ranks(), rank, exchange, 10, 1, ReduceOp::kSum);
  };
  EXPECT_THAT(gang_->RunGeneration(5, body), Each(IsOk()));
}

TEST_P(ExchangeGangContract, RanksThatMakeDifferentCallsAreNamed) {
  const int odd_one = ranks() - 1;
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    kernels::Tensor bucket = rank == odd_one ? Numbers({4, 3}) : Numbers({12});
    return exchange.Reduce(bucket, ReduceOp::kSum, Soon());
  };
  const std::vector<absl::Status> results = gang_->RunGeneration(1, body);
  int named = 0;
  for (const absl::Status& result : results) {
    // With real processes a host may be told that the gang has ended before it sees why.
    EXPECT_FALSE(result.ok());
    const bool both = absl::StrContains(result.message(), "called reduce sum i32[12]") &&
                      absl::StrContains(result.message(), "called reduce sum i32[4, 3]");
    EXPECT_EQ(both, result.code() == absl::StatusCode::kInternal) << result;
    named += both ? 1 : 0;
  }
  EXPECT_GE(named, 1);
}

TEST_P(ExchangeContract, OperandsItDoesNotTakeAreRefusedAndHarmNothing) {
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    kernels::Tensor floats = NewHostTensor(kernels::DType::kF32, {3});
    kernels::Tensor absent;
    EXPECT_THAT(exchange.Reduce(floats, ReduceOp::kMax, Soon()),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("f32[3]")));
    if (!exchange.AddsFloatingPoint()) {
      EXPECT_THAT(exchange.Reduce(floats, ReduceOp::kSum, Soon()),
                  StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("f32[3]")));
    }
    EXPECT_THAT(exchange.Reduce(absent, ReduceOp::kSum, Soon()),
                StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(exchange.Broadcast(absent, 0, Soon()),
                StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(exchange.Broadcast(floats, ranks(), Soon()),
                StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(exchange.Broadcast(floats, -1, Soon()),
                StatusIs(absl::StatusCode::kInvalidArgument));
    return ReduceAndCompare(ranks(), rank, exchange, 10, 1, ReduceOp::kSum);
  };
  EXPECT_THAT(gang_->RunGeneration(1, body), Each(IsOk()));
}

TEST_P(ExchangeContract, SumsOfFloatingPointAreTheSameOnAllRanksAndTwice) {
  constexpr int64_t kCount = 3001;
  std::vector<std::vector<float>> sums(static_cast<size_t>(2 * ranks()));
  const auto value = [](int rank, int64_t i) {
    return std::ldexp(static_cast<float>(Value(rank, i, 3)), static_cast<int>(i % 40) - 60);
  };
  const auto body = [&](int rank, Exchange& exchange) -> absl::Status {
    for (int round = 0; round < 2 && exchange.AddsFloatingPoint(); ++round) {
      std::vector<float> values;
      for (int64_t i = 0; i < kCount; ++i) values.push_back(value(rank, i));
      kernels::Tensor tensor = HostTensorOf(kernels::DType::kF32, values);
      const absl::Status done = exchange.Reduce(tensor, ReduceOp::kSum, Soon());
      if (!done.ok()) return done;
      sums[static_cast<size_t>(2 * rank + round)] = ValuesOf<float>(tensor);
    }
    return absl::OkStatus();
  };
  EXPECT_THAT(gang_->RunGeneration(1, body), Each(IsOk()));
  EXPECT_THAT(sums, Each(sums[0]));
  for (size_t i = 0; i < sums[0].size(); ++i) {
    double exact = 0;
    double sizes = 0;
    for (int rank = 0; rank < ranks(); ++rank) {
      exact += value(rank, static_cast<int64_t>(i));
      sizes += std::abs(value(rank, static_cast<int64_t>(i)));
    }
    EXPECT_NEAR(sums[0][i], exact, sizes * ranks() * 0x1p-24) << i;
  }
}

TEST_P(ExchangeContract, NothingWorksBeforePrepare) {
  gang_->StartGeneration(1);
  kernels::Tensor bucket = Numbers({1});
  gang_->exchange(0).Abort(absl::CancelledError("without effect"));
  EXPECT_THAT(gang_->exchange(0).Reduce(bucket, ReduceOp::kSum, Soon()),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  worker::Membership nowhere = gang_->MembershipOf(0);
  nowhere.rank = nowhere.ranks;
  EXPECT_THAT(gang_->exchange(0).Prepare(nowhere, Soon()),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ExchangeContract);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ExchangeGangContract);

}  // namespace weft::testing
