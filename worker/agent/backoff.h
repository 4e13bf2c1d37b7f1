// The pauses between attempts to connect: they double up to a limit, and each is drawn at random
// from its upper half, so that the agents of a cluster do not come back all at once.
#pragma once

#include <algorithm>

#include "absl/random/random.h"
#include "absl/time/time.h"

namespace weft::worker {

class Backoff {
 public:
  Backoff(absl::Duration first, absl::Duration longest) : first_(first), longest_(longest) {}

  absl::Duration Next() {
    bound_ = bound_ == absl::ZeroDuration() ? first_ : std::min(2 * bound_, longest_);
    return bound_ * absl::Uniform(absl::IntervalClosed, random_, 0.5, 1.0);
  }
  // The attempt worked: the next pause is a short one again.
  void Reset() { bound_ = absl::ZeroDuration(); }

 private:
  const absl::Duration first_;
  const absl::Duration longest_;
  absl::Duration bound_;
  absl::BitGen random_;
};

}  // namespace weft::worker
