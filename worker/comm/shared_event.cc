#include "worker/comm/shared_event.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <ctime>

namespace weft::worker {

void SharedEvent::Wait(uint32_t seen, absl::Duration timeout) {
  if (timeout <= absl::ZeroDuration()) return;
  // A bound keeps the conversion safe for "for ever"; callers loop anyhow.
  const timespec limit = absl::ToTimespec(std::min(timeout, absl::Hours(1)));
  // Not FUTEX_PRIVATE: the word is shared between processes.
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&changes_), FUTEX_WAIT, seen, &limit, nullptr, 0);
}

void SharedEvent::Notify() {
  changes_.fetch_add(1, std::memory_order_acq_rel);
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&changes_), FUTEX_WAKE, INT_MAX, nullptr, nullptr,
          0);
}

}  // namespace weft::worker
