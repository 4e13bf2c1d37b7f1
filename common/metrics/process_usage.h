// What the kernel says of any process of this host, from /proc.
#pragma once

#include <sys/types.h>

#include <optional>

namespace weft {

struct ProcessUsage {
  double processor_seconds = 0;  // user and system, all threads
  double resident_bytes = 0;
  double start_seconds = 0;  // when it began, since the Unix epoch
};

// Nothing when there is no such process, or it may not be seen.
std::optional<ProcessUsage> ReadProcessUsage(pid_t pid);

}  // namespace weft
