// One thread that owns a process's state: everything else posts to it. Timers belong to the loop,
// so a simulated loop controls time.
#pragma once

#include <cstdint>

#include "absl/functional/any_invocable.h"
#include "common/base/strong_int.h"
#include "common/time/clock.h"

namespace weft {

using TimerId = StrongInt<struct TimerIdTag>;

class EventLoop {
 public:
  virtual ~EventLoop() = default;
  // Runs `task` on the loop, in the order of the calls. Any thread. After Stop() the task is
  // dropped without being run.
  virtual void Post(absl::AnyInvocable<void()> task) = 0;
  // Runs `task` at or after `when`; equal times run in the order of the calls. Loop thread only.
  virtual TimerId RunAt(absl::Time when, absl::AnyInvocable<void()> task) = 0;
  // The task will not run; an unknown or finished timer is ignored. Loop thread only.
  virtual void Cancel(TimerId timer) = 0;
  [[nodiscard]] virtual bool InLoopThread() const = 0;
  [[nodiscard]] virtual const Clock& clock() const = 0;
};

}  // namespace weft
