// SharedEvent: lets threads of different processes sleep until something in their shared memory has
// changed. Lives in that memory; all zero bytes are a valid event.
//
//   waiter:   uint32_t seen = event.Read();  if (!condition) event.Wait(seen, timeout);  // again
//   changer:  make the condition true;       event.Notify();
// A change between Read and Wait is never missed. Wait also returns for no reason.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace weft::worker {

class SharedEvent {
 public:
  [[nodiscard]] uint32_t Read() const { return changes_.load(std::memory_order_acquire); }
  // Sleeps until Notify, for at most `timeout`; not at all when there was one since Read.
  void Wait(uint32_t seen, absl::Duration timeout);
  void Notify();  // wakes all

 private:
  std::atomic<uint32_t> changes_{0};
};
static_assert(sizeof(SharedEvent) == 4 && std::atomic<uint32_t>::is_always_lock_free);

}  // namespace weft::worker
