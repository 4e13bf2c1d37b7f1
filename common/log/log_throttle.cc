#include "common/log/log_throttle.h"

#include <utility>

namespace weft {

std::optional<int64_t> LogThrottle::Admit(absl::string_view kind, absl::Time now) {
  const absl::MutexLock lock(&mutex_);
  Period& period = periods_[std::string(kind)];
  if (now - period.begin >= period_) {
    period.begin = now;
    period.written = 0;
  }
  if (period.written >= count_) {
    ++period.left_out;
    return std::nullopt;
  }
  ++period.written;
  return std::exchange(period.left_out, 0);
}

}  // namespace weft
