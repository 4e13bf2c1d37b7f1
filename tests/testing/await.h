// Waiting in tests that run real processes: for a condition, never for a fixed time.
#pragma once

#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace weft::testing {

// Polls until `condition` holds or `limit` has passed; returns whether it held.
inline bool Await(const std::function<bool()>& condition,
                  absl::Duration limit = absl::Seconds(20)) {
  const absl::Time deadline = absl::Now() + limit;
  while (!condition()) {
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return true;
}

}  // namespace weft::testing
