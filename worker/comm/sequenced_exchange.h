// What all kinds of Exchange share: operands are checked, calls are numbered, the first failure is
// final for the generation, and errors carry the whole context. A kind adds only the transport.
#pragma once

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "worker/comm/exchange.h"
#include "worker/comm/exchange_call.h"

namespace weft::worker {

class SequencedExchange : public Exchange {
 public:
  absl::Status Prepare(const Membership& membership, absl::Time deadline) final;
  absl::Status Reduce(kernels::Tensor& bucket, ReduceOp op, absl::Time deadline) final;
  absl::Status Broadcast(kernels::Tensor& tensor, int root, absl::Time deadline) final;
  void Abort(const absl::Status& why) final;

 protected:
  // Connects to the generation of membership(). A failure needs no context: it is added here.
  virtual absl::Status Join(absl::Time deadline) = 0;
  // Carries out a checked call on the operand's bytes.
  virtual absl::Status Run(const ExchangeCall& call, absl::Span<char> bytes,
                           absl::Time deadline) = 0;
  // Makes a Join or Run that waits return, and tells the other ranks. Any thread; may be called
  // more than once, and before Join has connected: then failure() says so.
  virtual void Interrupt(const absl::Status& why) = 0;

  // For the calling thread of Prepare, Reduce and Broadcast only.
  [[nodiscard]] const Membership& membership() const { return membership_; }
  // OK, or what ended the present generation. Any thread.
  [[nodiscard]] absl::Status failure() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Status Execute(ExchangeCall call, kernels::Tensor& operand, absl::Time deadline);
  // Makes `status` (or the Abort that came before it) the end of the generation and returns it with
  // its context.
  absl::Status Fail(const absl::Status& status, absl::string_view context)
      ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] std::string Place() const;  // "job j, generation 3, rank 1 of 4"

  Membership membership_;
  uint64_t sequence_ = 0;
  mutable absl::Mutex mutex_;
  bool prepared_ ABSL_GUARDED_BY(mutex_) = false;  // some generation was
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weft::worker
