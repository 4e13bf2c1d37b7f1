#include "common/file/standard_output.h"

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <utility>

namespace weft {

absl::Status FlushStandardOutput() {
  const int before = std::exchange(errno, 0);
  std::cout.flush();
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return absl::OkStatus();
  // Of an earlier error stdio keeps the mark only; its number is the last one, as long as whoever
  // writes stops there.
  const int error = errno != 0 ? errno : before;
  return absl::ErrnoToStatus(error != 0 ? error : EIO, "cannot write to standard output");
}

}  // namespace weft
