// StepBuffer: reports of steps on their way to the coordinator, kept while it is away.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <vector>

#include "weft/v1/worker_link.pb.h"
#include "worker/agent/agent_types.h"

namespace weft::worker {

// Not thread-safe.
class StepBuffer {
 public:
  // Of each member at most `limit` reports are kept; the oldest go first.
  explicit StepBuffer(size_t limit) : limit_(limit) {}

  void Add(const MemberKey& key, const v1::StepReport& step);
  // Everything that waits, in order, cut into batches of at most `batch_steps`.
  std::vector<v1::StepBatch> Take(size_t batch_steps);
  // The link is gone, and nobody knows how much of what was taken last has arrived: the newest of
  // it wait again. A step that arrives twice counts once.
  void TakeBack();

 private:
  using Steps = std::map<MemberKey, std::deque<v1::StepReport>>;

  const size_t limit_;
  Steps waiting_;
  Steps taken_;  // the newest of each member
};

}  // namespace weft::worker
