// RelayThreadGang: real channels and relay loops, with threads for relays and no MPI between them.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "tests/worker/comm/exchange_gang.h"
#include "tests/worker/comm/fake_host_group.h"
#include "worker/comm/relay_channel.h"
#include "worker/comm/relay_exchange.h"

namespace weft::testing {

class RelayThreadGang final : public ExchangeGang {
 public:
  // `hosts`: the number of ranks of each host.
  RelayThreadGang(std::vector<int> hosts, int64_t chunk_bytes);
  ~RelayThreadGang() override;

  [[nodiscard]] int ranks() const override { return static_cast<int>(exchanges_.size()); }
  void StartGeneration(int64_t generation) override;
  [[nodiscard]] worker::Membership MembershipOf(int rank) const override;
  worker::Exchange& exchange(int rank) override { return *exchanges_[static_cast<size_t>(rank)]; }
  worker::RelayChannel& channel(int host) { return *channels_[static_cast<size_t>(host)]; }

 private:
  void EndGeneration();

  const std::vector<int> hosts_;
  const int64_t chunk_bytes_;
  worker::Generation generation_;
  std::vector<std::unique_ptr<worker::Exchange>> exchanges_;
  std::vector<std::unique_ptr<worker::RelayChannel>> channels_;  // one a host
  std::vector<std::thread> relays_;
};

// A name for shared memory that nothing else on this machine has.
std::string UniqueChannelName();

}  // namespace weft::testing
