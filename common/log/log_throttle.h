// LogThrottle: keeps what peers can cause as often as they like from filling the log.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace weft {

// Of each kind of message the first `count` of a period may be written. Any thread.
class LogThrottle {
 public:
  LogThrottle(int64_t count, absl::Duration period) : count_(count), period_(period) {}

  // Whether a message of this kind may be written now: how many before it were not; nothing when
  // this one may not either. Kinds are remembered for ever: places in code, not what peers send.
  std::optional<int64_t> Admit(absl::string_view kind, absl::Time now);

 private:
  struct Period {
    absl::Time begin = absl::InfinitePast();
    int64_t written = 0;
    int64_t left_out = 0;
  };

  const int64_t count_;
  const absl::Duration period_;
  absl::Mutex mutex_;
  std::map<std::string, Period> periods_ ABSL_GUARDED_BY(mutex_);  // the last one of each kind
};

}  // namespace weft
