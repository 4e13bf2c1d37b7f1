#include <unistd.h>

#include "worker/relay/lone_host_group.h"
#include "worker/relay/mpi_host_group.h"
#include "worker/relay/new_host_group.h"

namespace weft::worker {

absl::StatusOr<std::unique_ptr<HostGroup>> NewHostGroup(int hosts, int start_seconds, int* argc,
                                                        char*** argv) {
  if (hosts == 1) return std::make_unique<LoneHostGroup>();
  // Left at its default action: ends the process, which mpirun and the ranks notice.
  alarm(static_cast<unsigned>(start_seconds) + 1);
  if (MPI_Init(argc, argv) != MPI_SUCCESS) return absl::UnavailableError("MPI_Init failed");
  alarm(0);
  return MpiHostGroup::New();
}

}  // namespace weft::worker
