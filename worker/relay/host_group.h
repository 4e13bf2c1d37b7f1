// HostGroup: the relays of all hosts of a gang, as one relay sees them. Operations are started and
// then polled, one at a time, in the same order on every host: the caller keeps the deadline. An
// operation that is given up is never waited for; the process then ends with its buffers in place.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/comm/exchange_call.h"

namespace weft::worker {

class HostGroup {
 public:
  virtual ~HostGroup() = default;
  [[nodiscard]] virtual int hosts() const = 0;
  [[nodiscard]] virtual int index() const = 0;

  // `to` becomes the sum or the maximum of all hosts' `from`; both may be the same memory.
  virtual absl::Status StartReduce(CallOp op, absl::Span<const int32_t> from,
                                   absl::Span<int32_t> to) = 0;
  // All hosts' bytes become those of host `root`.
  virtual absl::Status StartBroadcast(absl::Span<char> bytes, int root) = 0;
  // `all` (hosts() x mine.size() bytes) becomes the bytes of every host, in order.
  virtual absl::Status StartGather(absl::Span<const char> mine, absl::Span<char> all) = 0;
  // Whether the operation that was started last is done. Does not block.
  virtual absl::StatusOr<bool> Poll() = 0;
};

}  // namespace weft::worker
