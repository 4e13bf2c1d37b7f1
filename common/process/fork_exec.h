// The part of starting a process that runs between fork and exec. Internal to process_supervisor.
#pragma once

#include <sys/types.h>

#include "absl/status/statusor.h"
#include "common/process/file_descriptor.h"
#include "common/process/process_supervisor.h"

namespace weft::internal {

// What the child gets as its descriptors 0 to 3; -1 leaves 1 and 2 as they are and 3 closed. All
// above 3 and closed on exec.
struct ChildDescriptors {
  int input = -1;
  int output = -1;
  int error = -1;
  int messages = -1;
};

// A descriptor with the same meaning above those that a child is given, closed on exec.
absl::StatusOr<FileDescriptor> MoveAboveStandard(FileDescriptor descriptor);

// Forks, makes the child the leader of a new process group that dies with the calling thread, and
// executes the program. Returns when the program runs; errors as ProcessSupervisor::Spawn.
absl::StatusOr<pid_t> ForkAndExec(const ChildOptions& options, const ChildDescriptors& descriptors);

}  // namespace weft::internal
