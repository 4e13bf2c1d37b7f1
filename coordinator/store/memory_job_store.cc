#include "coordinator/store/memory_job_store.h"

#include "absl/strings/str_cat.h"

namespace weft::coordinator {

absl::StatusOr<StoredCluster> MemoryJobStore::Load() { return StoredCluster{version_, state_}; }

absl::StatusOr<StoreVersion> MemoryJobStore::Commit(StoreVersion expected,
                                                    absl::Span<const Fact> facts) {
  if (expected != version_) {
    return absl::AbortedError(absl::StrCat("the store is at version ", version_.value(),
                                           ", not at ", expected.value(),
                                           ": another coordinator writes to it"));
  }
  for (const Fact& fact : facts) Apply(state_, fact);
  version_ = version_.Next();
  return version_;
}

}  // namespace weft::coordinator
