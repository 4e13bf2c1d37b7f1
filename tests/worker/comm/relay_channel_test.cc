#include "worker/comm/relay_channel.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/testing/status_matchers.h"
#include "tests/worker/comm/exchange_gang.h"
#include "tests/worker/comm/fake_host_group.h"
#include "tests/worker/comm/relay_thread_gang.h"
#include "worker/relay/relay_loop.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::Soon;
using testing::StatusIs;
using testing::UniqueChannelName;

RelayChannelOptions OneHost(int ranks) {
  RelayChannelOptions options;
  options.job = "job";
  options.generation = Generation(2);
  options.local_ranks = ranks;
  options.ranks = ranks;
  options.chunk_bytes = 64;
  return options;
}

ExchangeCall SumOf(int64_t count, uint64_t sequence) {
  ExchangeCall call;
  call.shape = {count};
  call.sequence = sequence;
  return call;
}

std::unique_ptr<RelayChannel> NewChannel(const RelayChannelOptions& options) {
  auto channel = RelayChannel::Create(UniqueChannelName(), options);
  EXPECT_THAT(channel, IsOk());
  return *std::move(channel);
}

// One mapping for all threads: what a race detector can follow, unlike several of one segment.
TEST(RelayChannel, ThreadsOnOneMappingExchangeWithoutRaces) {
  constexpr int kRanks = 3;
  const auto channel = NewChannel(OneHost(kRanks));
  std::thread relay([&] {
    ASSERT_THAT(channel->ClaimRelay(), IsOk());
    testing::FakeHostGroup group(std::make_shared<testing::FakeHosts>(1), 0);
    EXPECT_THAT(RelayLoop(*channel, group).Run(Soon()), StatusIs(absl::StatusCode::kCancelled));
  });
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&, rank] {
      ASSERT_THAT(channel->AwaitRelay(Soon()), IsOk());
      for (uint64_t sequence = 1; sequence <= 100; ++sequence) {
        std::vector<int32_t> values(1 + sequence % 70, rank + 1);  // up to five chunks
        const auto bytes =
            absl::MakeSpan(reinterpret_cast<char*>(values.data()), values.size() * 4);
        ASSERT_THAT(channel->Call(rank, SumOf(static_cast<int64_t>(values.size()), sequence), bytes,
                                  Soon()),
                    IsOk());
        ASSERT_EQ(values, std::vector<int32_t>(values.size(), 6));
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  channel->Abort(absl::CancelledError("done"));
  relay.join();
}

TEST(RelayChannel, TheFirstAbortIsTheOneThatCounts) {
  const auto channel = NewChannel(OneHost(1));
  const auto other = RelayChannel::Open(channel->name());
  ASSERT_THAT(other, IsOk());
  EXPECT_THAT((*other)->AbortStatus(), IsOk());
  channel->Abort(absl::UnavailableError(std::string(5000, 'x')));  // longer than there is room
  (*other)->Abort(absl::InternalError("second"));
  EXPECT_THAT((*other)->AbortStatus(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("xxx")));
}

TEST(RelayChannel, ARelayThatHasEndedIsNoticed) {
  const auto channel = NewChannel(OneHost(1));
  const pid_t relay = fork();
  if (relay == 0) {
    const auto mine = RelayChannel::Open(channel->name());
    _exit(mine.ok() && (*mine)->ClaimRelay().ok() ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(relay, &status, 0), relay);
  ASSERT_EQ(status, 0);
  EXPECT_THAT(channel->AwaitRelay(Soon()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("has ended")));
  EXPECT_THAT(channel->ClaimRelay(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("a relay already")));
}

TEST(RelayChannel, AnOwnerThatHasEndedIsNoticed) {
  const std::string name = UniqueChannelName();
  const pid_t owner = fork();
  if (owner == 0) {
    auto channel = RelayChannel::Create(name, OneHost(1));
    _exit(channel.ok() ? 0 : 1);  // without removing it, as when killed
  }
  int status = -1;
  ASSERT_EQ(waitpid(owner, &status, 0), owner);
  ASSERT_EQ(status, 0);
  const auto channel = RelayChannel::Open(name);
  ASSERT_THAT(channel, IsOk());
  EXPECT_TRUE((*channel)->OwnerIsGone());
  EXPECT_FALSE(NewChannel(OneHost(1))->OwnerIsGone());
  // Its relay leaves by itself.
  testing::FakeHostGroup group(std::make_shared<testing::FakeHosts>(1), 0);
  EXPECT_THAT(RelayLoop(**channel, group).Run(Soon()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("the agent of this host")));
  EXPECT_THAT(SharedMemory::Remove(name), IsOk());
}

TEST(RelayChannel, WhatIsNoChannelIsRefused) {
  EXPECT_THAT(RelayChannel::Open("/weft-test-never-made"),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("/weft-test-never-made")));
  const std::string name = UniqueChannelName();
  const auto foreign = SharedMemory::Create(name, 100'000);
  ASSERT_THAT(foreign, IsOk());
  EXPECT_THAT(RelayChannel::Open(name), StatusIs(absl::StatusCode::kFailedPrecondition));
  const auto taken = RelayChannel::Create(name, OneHost(1));
  EXPECT_THAT(taken, StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST(RelayChannel, ADamagedOrNewerChannelIsRefused) {
  for (const size_t damaged : {size_t{8}, size_t{24}, size_t{48}}) {  // protocol, ranks, bytes
    const auto channel = NewChannel(OneHost(1));
    const auto memory = SharedMemory::Open(channel->name());
    ASSERT_THAT(memory, IsOk());
    memory->bytes()[damaged + 1] = 0x55;
    EXPECT_THAT(RelayChannel::Open(channel->name()),
                StatusIs(absl::StatusCode::kFailedPrecondition))
        << "byte " << damaged;
  }
}

TEST(RelayChannel, ImpossiblePlacesAreRefused) {
  const auto refused = [](auto change) {
    RelayChannelOptions options = OneHost(2);
    change(options);
    return RelayChannel::Create(UniqueChannelName(), options).status();
  };
  constexpr auto kCode = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(refused([](auto& o) { o.host = 1; }), StatusIs(kCode));
  EXPECT_THAT(refused([](auto& o) { o.first_rank = 1; }), StatusIs(kCode));
  EXPECT_THAT(refused([](auto& o) { o.local_ranks = 0; }), StatusIs(kCode));
  EXPECT_THAT(refused([](auto& o) { o.chunk_bytes = 100; }), StatusIs(kCode, HasSubstr("100")));
}

// Two hosts whose channels disagree must not exchange a byte.
absl::Status MeetWith(const RelayChannelOptions& first, const RelayChannelOptions& second) {
  const auto hosts = std::make_shared<testing::FakeHosts>(2);
  const auto a = NewChannel(first);
  const auto b = NewChannel(second);
  std::thread other([&] {
    testing::FakeHostGroup group(hosts, 1);
    EXPECT_FALSE(RelayLoop(*b, group).Run(Soon()).ok());
  });
  testing::FakeHostGroup group(hosts, 0);
  absl::Status met = RelayLoop(*a, group).Run(Soon());
  EXPECT_FALSE(a->relay_joined());
  other.join();
  return met;
}

TEST(RelayLoop, HostsOfDifferentGenerationsOrPlansDoNotMeet) {
  RelayChannelOptions first = OneHost(1);
  first.hosts = 2;
  first.ranks = 2;
  RelayChannelOptions second = first;
  second.host = 1;
  second.first_rank = 1;
  RelayChannelOptions stale = second;
  stale.generation = Generation(1);
  EXPECT_THAT(MeetWith(first, stale), StatusIs(absl::StatusCode::kAborted,
                                               AllOf(HasSubstr("host 1"), HasSubstr("generation 1"),
                                                     HasSubstr("generation 2"))));
  RelayChannelOptions overlapping = second;
  overlapping.first_rank = 0;
  EXPECT_THAT(MeetWith(first, overlapping), StatusIs(absl::StatusCode::kInternal));
  RelayChannelOptions other_chunks = second;
  other_chunks.chunk_bytes = 128;
  EXPECT_THAT(MeetWith(first, other_chunks), StatusIs(absl::StatusCode::kInternal));
}

}  // namespace
}  // namespace weft::worker
