// StepBuffer: reports of steps on their way to the coordinator, kept until it has stored them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "absl/time/time.h"
#include "weft/v1/worker_link.pb.h"
#include "worker/agent/agent_types.h"

namespace weft::worker {

// Not thread-safe.
class StepBuffer {
 public:
  // At most `limit` reports are kept; the member that has most of them loses its oldest first.
  explicit StepBuffer(size_t limit) : limit_(limit) {}

  void Add(const MemberKey& key, const v1::StepReport& step);
  // Everything that waits, in order, cut into batches of at most `batch_steps`. It is kept on.
  std::vector<v1::StepBatch> Take(size_t batch_steps, absl::Time now);
  void OnStored(const MemberKey& key, int64_t first, int64_t last);
  // What was taken at `until` at the latest, and is not stored, waits again: the link is gone, or
  // the coordinator could not store it. A step that arrives twice counts once.
  void TakeBack(absl::Time until = absl::InfiniteFuture());

  // Whether nothing is left that is not stored.
  [[nodiscard]] bool empty() const { return members_.empty(); }

 private:
  struct Report {
    v1::StepReport step;
    absl::Time taken = absl::InfiniteFuture();  // infinite: it waits
  };

  const size_t limit_;
  size_t reports_ = 0;
  std::map<MemberKey, std::deque<Report>> members_;  // no queue is empty
};

}  // namespace weft::worker
