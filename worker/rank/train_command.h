// `weft-rank` without a subcommand: one rank of a gang, told by its agent what to do.
#pragma once

#include "common/base/exit_codes.h"
#include "common/process/file_descriptor.h"

namespace weft::worker {

// Speaks with the agent over `agent` until the run has ended. Ends the process itself when the
// agent orders it (130) or is gone (6). Otherwise returns 0 when all steps are done or a checkpoint
// was saved as ordered, and else the exit code of the error, which the agent was told.
ExitCode TrainForAgent(FileDescriptor agent);

}  // namespace weft::worker
