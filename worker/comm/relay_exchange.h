// RelayExchange: a rank's side of the exchange over its host's relay (weft-relay), which adds up
// the host's ranks and talks to the other hosts. The rank itself contains no MPI: a relay may die
// or be replaced, the rank keeps its weights and prepares the next generation.
#pragma once

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/comm/relay_channel.h"
#include "worker/comm/sequenced_exchange.h"

namespace weft::worker {

// Prepare opens Membership::relay_channel, which must exist (the agent creates it before it starts
// the ranks), and waits until the relays of all hosts have met.
class RelayExchange final : public SequencedExchange {
 protected:
  absl::Status Join(absl::Time deadline) override;
  absl::Status Run(const ExchangeCall& call, absl::Span<char> bytes, absl::Time deadline) override;
  void Interrupt(const absl::Status& why) override;

 private:
  absl::Status CheckChannel(const RelayChannelOptions& channel) const;
  std::shared_ptr<RelayChannel> channel() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  std::shared_ptr<RelayChannel> channel_ ABSL_GUARDED_BY(mutex_);  // of the present generation
};

}  // namespace weft::worker
