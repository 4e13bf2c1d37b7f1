// A JobStore that lives as long as its object: for tests and for a cluster that is thrown away.
#pragma once

#include "coordinator/store/job_store.h"

namespace weft::coordinator {

class MemoryJobStore final : public JobStore {
 public:
  absl::StatusOr<StoredCluster> Load() override;
  absl::StatusOr<StoreVersion> Commit(StoreVersion expected, absl::Span<const Fact> facts) override;

 private:
  StoreVersion version_;
  ClusterState state_;
};

}  // namespace weft::coordinator
