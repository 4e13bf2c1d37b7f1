// Keeps a directory for one process: held until the object, or the process, ends.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace weft::coordinator {

class DirectoryLock {
 public:
  // Takes <directory>/coordinator.lock. kFailedPrecondition, naming the directory and the holder's
  // process id, when another process has it.
  static absl::StatusOr<DirectoryLock> Take(const std::string& directory);
  ~DirectoryLock();
  DirectoryLock(DirectoryLock&& other) noexcept;
  DirectoryLock& operator=(DirectoryLock&&) = delete;

 private:
  explicit DirectoryLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace weft::coordinator
