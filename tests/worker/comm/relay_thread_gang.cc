#include "tests/worker/comm/relay_thread_gang.h"

#include <unistd.h>

#include <atomic>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "worker/relay/relay_loop.h"

namespace weft::testing {

std::string UniqueChannelName() {
  static std::atomic<int> count{0};
  return absl::StrCat("/weft-test.", getpid(), ".", ++count);
}

RelayThreadGang::RelayThreadGang(std::vector<int> hosts, int64_t chunk_bytes)
    : hosts_(std::move(hosts)), chunk_bytes_(chunk_bytes) {
  const int ranks = std::accumulate(hosts_.begin(), hosts_.end(), 0);
  for (int rank = 0; rank < ranks; ++rank) {
    exchanges_.push_back(std::make_unique<worker::RelayExchange>());
  }
}

RelayThreadGang::~RelayThreadGang() { EndGeneration(); }

void RelayThreadGang::EndGeneration() {
  for (const auto& channel : channels_) channel->Abort(absl::AbortedError("the test is over"));
  for (std::thread& relay : relays_) relay.join();
  relays_.clear();
  channels_.clear();
}

void RelayThreadGang::StartGeneration(int64_t generation) {
  EndGeneration();
  generation_ = worker::Generation(generation);
  const auto all = std::make_shared<FakeHosts>(static_cast<int>(hosts_.size()));
  int first_rank = 0;
  for (int host = 0; host < static_cast<int>(hosts_.size()); ++host) {
    worker::RelayChannelOptions options;
    options.job = "contract";
    options.generation = generation_;
    options.host = host;
    options.hosts = static_cast<int>(hosts_.size());
    options.first_rank = first_rank;
    options.local_ranks = hosts_[static_cast<size_t>(host)];
    options.ranks = ranks();
    options.chunk_bytes = chunk_bytes_;
    first_rank += options.local_ranks;
    auto channel = worker::RelayChannel::Create(UniqueChannelName(), options);
    WEFT_CHECK_MSG(channel.ok(), channel.status().ToString());
    channels_.push_back(*std::move(channel));
  }
  for (int host = 0; host < static_cast<int>(hosts_.size()); ++host) {
    relays_.emplace_back([&channel = *channels_[static_cast<size_t>(host)], all, host, this] {
      WEFT_CHECK(channel.ClaimRelay().ok());
      FakeHostGroup group(all, host);
      const absl::Status end = worker::RelayLoop(channel, group).Run(Soon());
      channel.Abort(end);
      // What mpirun does for real relays: with the first one the whole gang ends.
      for (const auto& other : channels_) {
        other->Abort(absl::UnavailableError("a relay of the gang has ended"));
      }
    });
  }
}

worker::Membership RelayThreadGang::MembershipOf(int rank) const {
  int local_rank = rank;
  size_t host = 0;
  while (local_rank >= hosts_[host]) local_rank -= hosts_[host++];
  return {"contract", generation_, rank, ranks(), local_rank, channels_[host]->name()};
}

}  // namespace weft::testing
