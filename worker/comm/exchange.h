// Exchange: how the ranks of a gang add up their gradients and share bytes. One interface, several
// transports (local, in process, relays over MPI); all of them give the same bits, because what
// travels through Reduce are integers. Some kinds also add floating point, where the result depends
// on how many ranks there are.
//
// The contract, the same for every kind:
//  - Every rank of the gang makes the same calls (op, shape, root) in the same order, from one
//    thread. A rank that differs is found and named (kInternal: it is a mistake of the program).
//  - Every call has a deadline and returns by it, whatever the others do.
//  - The first failure is final for the generation: all later calls return it, and the other ranks
//    of the gang are told (best effort; their own deadlines are the guarantee). The operand's
//    elements are then unspecified. Only Prepare with a newer generation leads out of it.
//  - Errors name the job, generation, rank, sequence number, op, shape and bytes:
//      kDeadlineExceeded  the others did not come in time
//      kAborted           Abort was called, another rank gave up, or the generation is stale
//      kUnavailable       the transport is missing or lost
//      kInternal          the ranks do not make the same calls
//      kInvalidArgument   an operand that this op does not take; nothing was sent, nothing is final
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/base/strong_int.h"
#include "kernels/tensor/tensor.h"

namespace weft::worker {

using Generation = StrongInt<struct GenerationTag>;

enum class ReduceOp : uint8_t { kSum, kMax };

// One rank's place in one forming of a gang.
struct Membership {
  std::string job;
  Generation generation;
  int rank = 0;   // in the gang
  int ranks = 1;  // of the gang
  // Relays only. The ranks of a gang are numbered host by host; local_rank counts those of this
  // host from 0. The channel is the name of the host's shared memory (relay_channel.h).
  int local_rank = 0;
  std::string relay_channel;
};

class Exchange {
 public:
  virtual ~Exchange() = default;

  // Joins a generation: returns when this rank can exchange, which may be before the others can.
  // A generation that is not newer than the last one prepared is stale: kAborted.
  virtual absl::Status Prepare(const Membership& membership, absl::Time deadline) = 0;

  // Replaces every element of `bucket` (I32, at most 2^31 - 1 elements) by the sum or the maximum
  // over all ranks. Sums wrap modulo 2^32; the exact codec never gets there. The operand lies where
  // the kind of exchange says: in the host's memory, unless it is one for GPUs. Work that was
  // enqueued on it must be done, and the result is there when the call returns.
  // Where AddsFloatingPoint, also sums of F32 or F64: the same bits on all ranks, and in every gang
  // of as many ranks on the same hardware.
  virtual absl::Status Reduce(kernels::Tensor& bucket, ReduceOp op, absl::Time deadline) = 0;
  [[nodiscard]] virtual bool AddsFloatingPoint() const { return false; }

  // Replaces every element of `tensor` (any element type, lying as for Reduce) by those of rank
  // `root`. Bits travel unchanged.
  virtual absl::Status Broadcast(kernels::Tensor& tensor, int root, absl::Time deadline) = 0;

  // Ends the current generation; a call that waits returns at once with kAborted and `why`. Any
  // thread, also when nothing is prepared (then without effect). The first cause is the one kept.
  virtual void Abort(const absl::Status& why) = 0;
};

}  // namespace weft::worker
