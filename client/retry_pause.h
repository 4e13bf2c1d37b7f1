// RetryPause: how long a command that follows something waits before it asks a coordinator that is
// away once more.
#pragma once

#include <algorithm>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace weft::client {

class RetryPause {
 public:
  // Doubles from one to the next; ends at the deadline.
  void Sleep(absl::Time deadline = absl::InfiniteFuture()) {
    absl::SleepFor(std::min(next_, deadline - absl::Now()));
    next_ = std::min(next_ * 2, kLongest);
  }
  // Somebody has answered.
  void Reset() { next_ = kFirst; }

 private:
  static constexpr absl::Duration kFirst = absl::Milliseconds(100);
  static constexpr absl::Duration kLongest = absl::Seconds(5);

  absl::Duration next_ = kFirst;
};

}  // namespace weft::client
