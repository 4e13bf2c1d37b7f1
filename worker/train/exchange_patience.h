// ExchangePatience: how long a rank waits in an exchange before it gives the others up. Learnt from
// the steps of this generation, so that a rank or a relay that hangs in a job of quick steps is
// noticed in half a minute.
#pragma once

#include <algorithm>

#include "absl/time/time.h"

namespace weft::worker {

// Used by one thread.
class ExchangePatience {
 public:
  // `untimed`: while nothing is known: before steps were seen, and wherever ranks do different
  // work.
  explicit ExchangePatience(absl::Duration untimed) : untimed_(untimed) {}

  // A step took `time` on this rank, its waiting for others included. `apart`: behind it some ranks
  // save or evaluate, so that the next exchange may wait for that.
  void OnStep(absl::Duration time, bool apart) {
    if (!apart && !apart_) {
      slowest_ = std::max(slowest_, time);
      ++steps_;
    }
    apart_ = apart;
  }
  // Of the exchanges of the next step.
  [[nodiscard]] absl::Duration next() const {
    if (apart_ || steps_ < kStepsToLearn) return untimed_;
    return std::max(kLeast, kSlowestTimes * slowest_);
  }
  [[nodiscard]] absl::Duration untimed() const { return untimed_; }

 private:
  static constexpr int kStepsToLearn = 3;
  // A host may be busy, a disk slow, a process be moved: only what is far out of proportion hangs.
  static constexpr int kSlowestTimes = 10;
  static constexpr absl::Duration kLeast = absl::Seconds(30);

  const absl::Duration untimed_;
  absl::Duration slowest_ = absl::ZeroDuration();
  int steps_ = 0;
  bool apart_ = true;  // a run begins with opening data and reading a checkpoint
};

}  // namespace weft::worker
