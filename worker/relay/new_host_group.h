// The host group of a relay: alone, or over MPI where this build has it.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/relay/host_group.h"

namespace weft::worker {

// `start_seconds`: MPI_Init, which cannot be given a deadline, ends the process a second later.
// kUnimplemented for several hosts in a build without MPI.
absl::StatusOr<std::unique_ptr<HostGroup>> NewHostGroup(int hosts, int start_seconds, int* argc,
                                                        char*** argv);

}  // namespace weft::worker
