// Where facts become durable. The driver is the only user.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/strong_int.h"
#include "coordinator/core/facts.h"
#include "coordinator/core/state.h"

namespace weft::coordinator {

// Grows with every commit; 0 = nothing was ever committed.
using StoreVersion = StrongInt<struct StoreVersionTag>;

struct StoredCluster {
  StoreVersion version;
  ClusterState state;  // every worker absent
};

// Blocking; used by one thread at a time (the store thread once the driver runs).
class JobStore {
 public:
  virtual ~JobStore() = default;

  // What was committed. kDataLoss: damaged; kFailedPrecondition: written by a newer version. Both
  // name the file.
  virtual absl::StatusOr<StoredCluster> Load() = 0;

  // All facts or none, durable when OK. `facts` are durable ones, at least one.
  // kAborted: `expected` is not the current version, so another coordinator took over: the caller
  // must stop. kResourceExhausted (disk full), kUnavailable: nothing was stored, the same call may
  // succeed later. kDataLoss: the store cannot be trusted any more.
  virtual absl::StatusOr<StoreVersion> Commit(StoreVersion expected,
                                              absl::Span<const Fact> facts) = 0;

  // Of a store that several coordinators share: how often Renew is to be called, so that this one
  // goes on leading. Infinite: never.
  [[nodiscard]] virtual absl::Duration renewal() const { return absl::InfiniteDuration(); }
  // kAborted: another coordinator may lead by now: the caller must stop.
  virtual absl::Status Renew() { return absl::OkStatus(); }
};

}  // namespace weft::coordinator
