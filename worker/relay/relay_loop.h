// What a relay does all its life: take the calls of its host's ranks from the channel, combine
// them, exchange with the other hosts, answer. Free of MPI, so that tests can run it with threads.
#pragma once

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/relay_channel.h"
#include "worker/relay/host_group.h"

namespace weft::worker {

class RelayLoop {
 public:
  // Both outlive the loop. One thread.
  RelayLoop(RelayChannel& channel, HostGroup& group) : channel_(channel), group_(group) {}

  // Meets the other hosts by `start_deadline`, then serves until something ends it; returns what
  // (never OK): the channel's abort, a gone owner (kUnavailable), a missed deadline, ranks or hosts
  // that differ (kInternal), a failure of the group. Buffers may still be in use by the group then:
  // the caller ends its process, after aborting the channel.
  absl::Status Run(absl::Time start_deadline);

 private:
  absl::Status Meet(absl::Time deadline);
  absl::Status ServeCall();
  [[nodiscard]] absl::Time RelayDeadline() const;  // for the posted call
  // All hosts' calls must be the same.
  absl::Status CompareCalls(const ExchangeCall& call, absl::Time deadline);
  absl::Status ExchangeChunk(const ExchangeCall& call, int64_t bytes, absl::Time deadline);
  absl::Status ReduceChunk(const ExchangeCall& call, int64_t bytes);
  absl::Status BroadcastChunk(const ExchangeCall& call, int64_t bytes);
  // Polls the group until the started operation is done.
  absl::Status Finish(absl::Time deadline);
  [[nodiscard]] absl::Status CheckOwner() const;
  [[nodiscard]] int HostOf(int rank) const;

  RelayChannel& channel_;
  HostGroup& group_;
  std::vector<int> first_ranks_;  // of every host
  // Buffers of gathers: members, because a given-up gather may still write to them.
  std::vector<char> mine_;
  std::vector<char> all_;
};

}  // namespace weft::worker
