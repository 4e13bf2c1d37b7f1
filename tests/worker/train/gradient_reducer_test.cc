#include "worker/train/gradient_reducer.h"

#include <bit>
#include <cmath>
#include <limits>
#include <thread>

#include "kernels/device/cpu/cpu_device.h"
#include "kernels/ops/register.h"
#include "kernels/random/philox.h"
#include "tests/testing/status_matchers.h"
#include "worker/comm/in_process_exchange.h"
#include "worker/comm/local_exchange.h"
#include "worker/train/shard_plan.h"

namespace weft::worker {
namespace {

constexpr int64_t kElements = 5000;  // five blocks, the last one short
constexpr int64_t kShards = 5;

// Shards of very different sizes, block by block.
std::vector<float> ShardGradient(int64_t shard) {
  std::vector<double> normals(kElements);
  kernels::FillNormal(/*seed=*/9, {}, static_cast<uint32_t>(shard), 0, absl::MakeSpan(normals));
  std::vector<float> gradient;
  for (size_t i = 0; i < normals.size(); ++i) {
    const double scale = std::ldexp(1.0, static_cast<int>((i / 700 + 3 * shard) % 20) - 10);
    gradient.push_back(static_cast<float>(normals[i] * scale));
  }
  return gradient;
}

std::vector<uint32_t> BitsOf(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  bits.reserve(values.size());
  for (const float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

std::vector<float> Reduce(int ranks, int64_t bucket_elements,
                          const std::vector<std::vector<float>>& shards, int steps = 1,
                          Reproducibility reproducibility = Reproducibility::kExact) {
  kernels::RegisterCpuKernels();
  auto hub = std::make_shared<InProcessHub>();
  std::vector<std::vector<float>> results(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(ranks));
  const RealClock clock;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      const auto device = kernels::NewCpuDevice({.threads = 1});
      const auto stream = (*device)->NewStream();
      InProcessExchange exchange(hub);
      ASSERT_OK(exchange.Prepare({.job = "j",
                                  .generation = Generation(1),
                                  .rank = rank,
                                  .ranks = ranks,
                                  .local_rank = 0,
                                  .relay_channel = ""},
                                 clock.Now() + absl::Minutes(1)));
      ExchangeThread thread;
      const ShardRange local = ShardsOfRank(kShards, rank, ranks);
      auto reducer = GradientReducer::Create(**device, exchange, thread, clock,
                                             {.elements = kElements,
                                              .shards = kShards,
                                              .local_shards = local.count(),
                                              .reproducibility = reproducibility,
                                              .bucket_elements = bucket_elements});
      ASSERT_OK(reducer);
      for (int step = 0; step < steps; ++step) {
        ASSERT_OK((*reducer)->Begin(**stream));
        for (int64_t i = 0; i < local.count(); ++i) {
          kernels::Tensor gradient = (*reducer)->shard_gradient(i);
          std::vector<float> values(kElements);
          ASSERT_OK((*device)->CopyToHost(values.data(), gradient, **stream));
          const std::vector<float>& shard = shards[static_cast<size_t>(local.first + i)];
          for (size_t k = 0; k < values.size(); ++k) values[k] += shard[k];
          ASSERT_OK((*device)->CopyFromHost(gradient, values.data(), **stream));
        }
        for (const int64_t first : {4096, 4000, 100, 0}) {
          ASSERT_OK((*reducer)->Ready(**stream, first));
        }
        ASSERT_OK((*reducer)->Finish());
      }
      std::vector<float>& result = results[static_cast<size_t>(rank)];
      result.resize(kElements);
      ASSERT_OK((*device)->CopyToHost(result.data(), (*reducer)->mean(), **stream));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) {
    EXPECT_EQ(BitsOf(result), BitsOf(results[0]));
  }
  return results[0];
}

std::vector<std::vector<float>> AllShards() {
  std::vector<std::vector<float>> shards;
  for (int64_t shard = 0; shard < kShards; ++shard) shards.push_back(ShardGradient(shard));
  return shards;
}

TEST(GradientReducerTest, SumIsAsExactAsTheIntegersAllow) {
  const auto shards = AllShards();
  const std::vector<float> sum = Reduce(1, 2048, shards);
  for (size_t block = 0; block < kElements; block += 1024) {
    const size_t end = std::min<size_t>(block + 1024, kElements);
    double largest = 0;
    for (const auto& shard : shards) {
      for (size_t i = block; i < end; ++i) {
        largest = std::max(largest, std::abs(static_cast<double>(shard[i])));
      }
    }
    for (size_t i = block; i < end; ++i) {
      double exact = 0;
      for (const auto& shard : shards) exact += shard[i];
      // 28 bits for five shards, each off by half a unit of at most largest * 2^-27; then one
      // rounding to fp32.
      const double unit = largest * 0x1p-27;
      EXPECT_NEAR(sum[i], exact, 2.5 * unit + std::abs(exact) * 0x1p-24) << i;
    }
  }
}

TEST(GradientReducerTest, BitsAreEqualForAnyRanksBucketsAndRepetition) {
  const auto shards = AllShards();
  const std::vector<float> expected = Reduce(1, 1 << 20, shards);
  for (const int ranks : {1, 2, 3, 4, 5}) {
    for (const int64_t bucket : {1, 1024, 2048, 1 << 20}) {
      EXPECT_EQ(Reduce(ranks, bucket, shards, /*steps=*/2), expected)
          << ranks << " ranks, buckets of " << bucket;
    }
  }
}

TEST(GradientReducerTest, AFixedGangAddsInFloatingPoint) {
  const auto shards = AllShards();
  for (const int ranks : {1, 2, 5}) {
    std::vector<float> expected(kElements);
    for (int rank = 0; rank < ranks; ++rank) {
      const ShardRange local = ShardsOfRank(kShards, rank, ranks);
      std::vector<float> of_rank(kElements);
      for (int64_t shard = local.first; shard < local.last; ++shard) {
        for (size_t i = 0; i < kElements; ++i) of_rank[i] += shards[static_cast<size_t>(shard)][i];
      }
      for (size_t i = 0; i < kElements; ++i) expected[i] += of_rank[i];
    }
    for (const int64_t bucket : {1024, 1 << 20}) {
      EXPECT_EQ(Reduce(ranks, bucket, shards, /*steps=*/2, Reproducibility::kFixedGang), expected)
          << ranks << " ranks, buckets of " << bucket;
    }
  }
  EXPECT_NE(Reduce(1, 1024, shards, 1, Reproducibility::kFixedGang), Reduce(1, 1024, shards));
}

// Between hosts: relays, which add integers only.
class IntegersOnly final : public SequencedExchange {
 protected:
  absl::Status Join(absl::Time /*deadline*/) override { return absl::OkStatus(); }
  absl::Status Run(const ExchangeCall& /*call*/, absl::Span<char> /*bytes*/,
                   absl::Time /*deadline*/) override {
    return absl::OkStatus();
  }
  void Interrupt(const absl::Status& /*why*/) override {}
};

TEST(GradientReducerTest, AFixedGangNeedsAnExchangeThatAddsFloatingPoint) {
  const auto device = kernels::NewCpuDevice({.threads = 1});
  const RealClock clock;
  IntegersOnly exchange;
  ExchangeThread thread;
  EXPECT_THAT(
      GradientReducer::Create(**device, exchange, thread, clock,
                              {.elements = 1, .reproducibility = Reproducibility::kFixedGang}),
      ::weft::testing::StatusIs(absl::StatusCode::kUnimplemented,
                                ::testing::HasSubstr("must be exact")));
}

// Of one rank: what it is given is the sum.
class CountsCalls final : public SequencedExchange {
 public:
  int calls = 0;

 protected:
  absl::Status Join(absl::Time /*deadline*/) override { return absl::OkStatus(); }
  absl::Status Run(const ExchangeCall& /*call*/, absl::Span<char> /*bytes*/,
                   absl::Time /*deadline*/) override {
    ++calls;
    return absl::OkStatus();
  }
  void Interrupt(const absl::Status& /*why*/) override {}
};

// What a reducer needs, for the only rank.
template <typename Kind>
struct OneRank {
  OneRank() {
    kernels::RegisterCpuKernels();
    EXPECT_OK(exchange.Prepare({.job = "j", .generation = Generation(1), .relay_channel = ""},
                               absl::InfiniteFuture()));
  }
  absl::StatusOr<std::unique_ptr<GradientReducer>> NewReducer(
      const GradientReducer::Options& options) {
    return GradientReducer::Create(*device, exchange, thread, clock, options);
  }

  const std::unique_ptr<kernels::Device> device = kernels::NewCpuDevice({.threads = 1}).value();
  const std::unique_ptr<kernels::Stream> stream = device->NewStream().value();
  const RealClock clock;
  Kind exchange;
  ExchangeThread thread;
};

TEST(GradientReducerTest, BucketsThatAreReadyTogetherAreExchangedAsOne) {
  OneRank<CountsCalls> rank;
  const auto reducer = rank.NewReducer(
      {.elements = kElements, .shards = 2, .local_shards = 2, .bucket_elements = 1024});
  ASSERT_OK(reducer);
  ASSERT_OK((*reducer)->Begin(*rank.stream));
  ASSERT_OK((*reducer)->Ready(*rank.stream, 0));
  ASSERT_OK((*reducer)->Finish());
  EXPECT_EQ(rank.exchange.calls, 2 * 2);  // exponents and sums, of four buckets and then of one
}

TEST(GradientReducerTest, AnExchangeWaitsUntilItIsWorthIt) {
  OneRank<CountsCalls> rank;
  // Buckets of 8 to 32 blocks of 1024 elements.
  const auto reducer =
      rank.NewReducer({.elements = 256 << 10, .shards = 2, .bucket_elements = 1024});
  ASSERT_OK(reducer);
  ASSERT_OK((*reducer)->Begin(*rank.stream));
  const auto exchanges_at = [&](int64_t first) {
    const int before = rank.exchange.calls;
    EXPECT_OK((*reducer)->Ready(*rank.stream, first));
    EXPECT_OK(rank.thread.Drain());
    return (rank.exchange.calls - before) / 2;  // exponents and sums
  };
  EXPECT_EQ(exchanges_at(252 << 10), 0);
  EXPECT_EQ(exchanges_at((248 << 10) - 1), 1);
  EXPECT_EQ(exchanges_at((248 << 10) - 1), 0) << "nothing new";
  EXPECT_EQ(exchanges_at(100 << 10), 5);  // of 148 blocks
  EXPECT_EQ(exchanges_at(94 << 10), 0);
  EXPECT_EQ(exchanges_at(32 << 10), 3);
  EXPECT_EQ(exchanges_at(31 << 10), 1) << "near the end there is no waiting";
  EXPECT_EQ(exchanges_at(0), 1);
  EXPECT_OK((*reducer)->Finish());
}

TEST(GradientReducerTest, ANonFiniteElementReachesEveryRank) {
  auto shards = AllShards();
  shards[4][1500] = std::numeric_limits<float>::infinity();
  const std::vector<float> sum = Reduce(3, 1024, shards);
  EXPECT_TRUE(std::isnan(sum[1500]));
  EXPECT_TRUE(std::isfinite(sum[0]));
}

TEST(GradientReducerTest, TheGradientOfOneShardIsTheMeanBitForBit) {
  OneRank<LocalExchange> rank;
  const auto reducer = rank.NewReducer({.elements = kElements});
  ASSERT_OK(reducer);
  const std::vector<float> shard = ShardGradient(0);
  std::vector<float> mean(kElements);
  for (int step = 0; step < 2; ++step) {
    ASSERT_OK((*reducer)->Begin(*rank.stream));
    kernels::Tensor gradient = (*reducer)->shard_gradient(0);
    ASSERT_OK(rank.device->CopyFromHost(gradient, shard.data(), *rank.stream));
    ASSERT_OK((*reducer)->Ready(*rank.stream, 0));
    ASSERT_OK((*reducer)->Finish());
    ASSERT_OK(rank.device->CopyToHost(mean.data(), (*reducer)->mean(), *rank.stream));
    EXPECT_EQ(BitsOf(mean), BitsOf(shard));
  }
}

}  // namespace
}  // namespace weft::worker
