// In a build without MPI.
#include "worker/relay/lone_host_group.h"
#include "worker/relay/new_host_group.h"

namespace weft::worker {

absl::StatusOr<std::unique_ptr<HostGroup>> NewHostGroup(int hosts, int /*start_seconds*/,
                                                        int* /*argc*/, char*** /*argv*/) {
  if (hosts == 1) return std::make_unique<LoneHostGroup>();
  return absl::UnimplementedError("this weft-relay was built without MPI");
}

}  // namespace weft::worker
