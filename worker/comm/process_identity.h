// Which process it was: a pid is used again, a pid with its start time is not.
#pragma once

#include <cstdint>

namespace weft::worker {

struct ProcessIdentity {
  int32_t pid = 0;           // 0: no process
  uint64_t start_ticks = 0;  // since the machine came up, in clock ticks; 0: unknown
};

ProcessIdentity ThisProcess();

// Whether that process has ended: it is not there, is a zombie, or its pid belongs to another one.
// Only for processes of the same pid namespace. No process at all is not gone.
bool IsGone(const ProcessIdentity& process);

}  // namespace weft::worker
