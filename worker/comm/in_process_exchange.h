// InProcessExchange: a gang whose ranks are threads of one process. For tests of what is built on
// an Exchange: the same contract and the same bits as the real thing, without processes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/comm/sequenced_exchange.h"

namespace weft::worker {

// Where the ranks of one gang meet. Shared by their exchanges; any thread. The newest generation
// that any rank prepares ends the older ones.
class InProcessHub {
 public:
  absl::Status Join(const Membership& membership);
  // Waits for all ranks; the last one combines. Errors without context.
  absl::Status Run(const Membership& membership, const ExchangeCall& call, absl::Span<char> bytes,
                   absl::Time deadline);
  // Ends `generation` if it is the present one.
  void Abort(Generation generation, const absl::Status& why);

 private:
  struct Post {
    bool present = false;
    ExchangeCall call;
    absl::Span<char> bytes;  // of a rank that waits in Run
  };

  absl::Status CombinePosts() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] std::string MissingRanks() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckGeneration(Generation generation) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  bool joined_ ABSL_GUARDED_BY(mutex_) = false;
  Generation generation_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);    // of the present generation
  uint64_t completed_ ABSL_GUARDED_BY(mutex_) = 0;  // calls, over all generations
  // How the last completed call ended: stays until every rank of it has left Run, since the next
  // one needs them all.
  absl::Status combined_ ABSL_GUARDED_BY(mutex_);
  std::vector<Post> posts_ ABSL_GUARDED_BY(mutex_);  // one per rank
};

class InProcessExchange final : public SequencedExchange {
 public:
  explicit InProcessExchange(std::shared_ptr<InProcessHub> hub) : hub_(std::move(hub)) {}
  [[nodiscard]] bool AddsFloatingPoint() const override { return true; }  // rank by rank

 protected:
  absl::Status Join(absl::Time deadline) override;
  absl::Status Run(const ExchangeCall& call, absl::Span<char> bytes, absl::Time deadline) override;
  void Interrupt(const absl::Status& why) override;

 private:
  std::shared_ptr<InProcessHub> hub_;
  absl::Mutex mutex_;
  Generation joined_ ABSL_GUARDED_BY(mutex_);  // what Interrupt ends; 0 is never joined
};

}  // namespace weft::worker
