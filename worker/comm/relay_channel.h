// RelayChannel: the shared memory between one host's ranks and its relay, for one generation.
//
// The agent creates the segment and removes it; ranks and the relay open it by name. A call travels
// in chunks: each rank copies its chunk into its own slot (two chunks deep, so that copying and
// sending overlap) and posts it; the relay combines the slots of all ranks, exchanges with the
// other hosts, writes the result once for all ranks and answers. relay_layout.h has the bytes.
//
// All waiting is on futex words with a deadline: nobody spins, and nobody relies on the other side
// being alive. The abort is final, carries a reason, and wakes all.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/comm/exchange.h"
#include "worker/comm/exchange_call.h"
#include "worker/comm/shared_memory.h"

namespace weft::worker {

namespace relay_layout {
struct Header;
struct Slot;
}  // namespace relay_layout

struct RelayChannelOptions {
  std::string job;  // the first 127 bytes count
  Generation generation;
  int host = 0;  // this host's index among the hosts of the gang
  int hosts = 1;
  int first_rank = 0;  // of this host's ranks, which are numbered consecutively
  int local_ranks = 1;
  int ranks = 1;  // of the gang
  // Bytes of one chunk: a multiple of 64, the same on every host of a gang. The segment holds
  // 2 x (local_ranks + 1) chunks. 2 MiB: large enough that a chunk's fixed costs vanish.
  int64_t chunk_bytes = int64_t{2} << 20;
};

class RelayChannel {
 public:
  // The owner's side: the name goes away with the object, the mappings of others stay valid.
  // kAlreadyExists, kResourceExhausted (shared memory is full), kInvalidArgument.
  static absl::StatusOr<std::unique_ptr<RelayChannel>> Create(const std::string& name,
                                                              const RelayChannelOptions& options);
  // A rank's or the relay's side. kUnavailable when there is no such segment, kFailedPrecondition
  // when it was made by another version of this protocol or is damaged.
  static absl::StatusOr<std::unique_ptr<RelayChannel>> Open(const std::string& name);

  [[nodiscard]] const std::string& name() const { return memory_.name(); }
  [[nodiscard]] const RelayChannelOptions& options() const { return options_; }

  // ---- Anybody, any thread.
  void Abort(const absl::Status& why);  // final; the first reason is kept
  // OK, or the reason of the abort, with the code that Abort was given.
  [[nodiscard]] absl::Status AbortStatus() const;
  // Whether this host's relay has met the relays of all other hosts.
  [[nodiscard]] bool relay_joined() const;
  // The process that created the segment has ended: nobody will abort or clean up.
  [[nodiscard]] bool OwnerIsGone() const;

  // ---- A rank: one thread for each local rank. Errors: kDeadlineExceeded, kUnavailable (the relay
  // has ended), or what AsToldByAnother makes of an abort.
  absl::Status AwaitRelay(absl::Time deadline);
  // Carries out a call on `bytes`, the operand, which become the result.
  absl::Status Call(int local_rank, const ExchangeCall& call, absl::Span<char> bytes,
                    absl::Time deadline);

  // ---- The relay: one thread.
  // kFailedPrecondition when the place is taken.
  absl::Status ClaimRelay();
  void SetRelayJoined();
  // The number of the next chunk to answer.
  [[nodiscard]] uint64_t NextChunk() const;
  // Waits for the next chunk of any rank, without a deadline: the gang may be idle. `check` is
  // asked about ten times a second and ends the wait when it is not OK.
  using Check = std::function<absl::Status()>;
  absl::Status AwaitAnyPost(const Check& check);
  // Waits for the next chunk of every rank: kDeadlineExceeded naming who is missing.
  absl::Status AwaitAllPosts(absl::Time deadline, const Check& check);
  // After AwaitAllPosts: the call that all ranks are in; kInternal, naming two, when they differ.
  [[nodiscard]] absl::StatusOr<ExchangeCall> PostedCall() const;
  // The latest deadline of the ranks that have posted the next chunk.
  [[nodiscard]] absl::Time PostedDeadline() const;
  // The memory of the next chunk: a rank's contribution, the result. chunk_bytes each.
  [[nodiscard]] absl::Span<char> PostedChunk(int local_rank) const;
  [[nodiscard]] absl::Span<char> ResultChunk() const;
  void Answer();  // publishes ResultChunk and goes on to the next one

 private:
  RelayChannel(SharedMemory memory, RelayChannelOptions options);

  [[nodiscard]] relay_layout::Header& header() const;
  [[nodiscard]] relay_layout::Slot& slot(int local_rank) const;
  [[nodiscard]] absl::Span<char> Half(int area, uint64_t chunk) const;
  absl::Status AwaitAnswer(uint64_t chunk, absl::Time deadline);
  template <typename Condition>
  absl::Status AwaitAsRank(const Condition& condition, absl::string_view what, absl::Time deadline);
  template <typename Condition>
  absl::Status AwaitAsRelay(const Condition& condition, absl::Time deadline, const Check& check);
  [[nodiscard]] bool RelayIsGone() const;

  SharedMemory memory_;
  RelayChannelOptions options_;
};

}  // namespace weft::worker
