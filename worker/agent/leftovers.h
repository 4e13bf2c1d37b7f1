// What earlier agents of the same state directory left behind when they were killed.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/process/file_descriptor.h"

namespace weft::worker {

// Every process that an agent starts, and what those start, carries this in its environment; the
// value is the agent's state directory. Nobody else sets it: it is no option's name, and relays
// keep it (no prefix of kForeign in relay_launcher.cc begins it).
inline constexpr char kOwnerVariable[] = "WEFT_OWNER_STATE";

// An agent's environment as its children get it: with the mark, and without that of an agent whose
// descendant this agent is.
std::vector<std::string> MarkedEnvironment(const std::vector<std::string>& environment,
                                           const std::string& state_directory);

// Kills (SIGKILL) every process of this machine that carries the variable with this value, except
// ourselves; returns how many. The caller holds the directory's lock, so none of them has an agent.
int KillLeftoverProcesses(const std::string& state_directory);

// Takes the lock of a state directory, which is made when it is missing. It is free again when the
// descriptor closes, also by a crash. kFailedPrecondition when another agent has it.
absl::StatusOr<FileDescriptor> LockStateDirectory(const std::string& state_directory);

}  // namespace weft::worker
