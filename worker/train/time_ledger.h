// TimeLedger: books every moment of a rank's main thread on one cause, so the parts of a step add
// up to the whole.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "absl/time/time.h"
#include "common/time/clock.h"

namespace weft::worker {

enum class TimeCause : uint8_t { kCompute, kExchange, kData, kCheckpoint, kEvaluation, kRestore };
inline constexpr int kTimeCauses = 6;

class TimeByCause {
 public:
  absl::Duration& operator[](TimeCause cause) { return times_[static_cast<size_t>(cause)]; }
  absl::Duration operator[](TimeCause cause) const { return times_[static_cast<size_t>(cause)]; }
  [[nodiscard]] absl::Duration Total() const {
    absl::Duration total;
    for (const absl::Duration time : times_) total += time;
    return total;
  }

 private:
  std::array<absl::Duration, kTimeCauses> times_;
};

// Used by one thread.
class TimeLedger {
 public:
  // Time counts for `cause` from now on. The clock outlives the ledger.
  TimeLedger(const Clock& clock, TimeCause cause)
      : clock_(clock), cause_(cause), since_(clock.Now()) {}

  // Time counts for `cause` from now on. Returns the cause until now, for switching back.
  TimeCause Switch(TimeCause cause) {
    const absl::Time now = clock_.Now();
    times_[cause_] += now - since_;
    since_ = now;
    return std::exchange(cause_, cause);
  }
  // All time since the last Take.
  TimeByCause Take() {
    Switch(cause_);
    return std::exchange(times_, TimeByCause());
  }

 private:
  const Clock& clock_;
  TimeCause cause_;
  absl::Time since_;
  TimeByCause times_;
};

}  // namespace weft::worker
