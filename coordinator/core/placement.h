// Which workers a job would get. Asked by the scheduler, and by Explain for its reasons, so that
// the two can never disagree.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/core/policy.h"
#include "coordinator/core/state.h"

namespace weft::coordinator {

// The device class that a job is bound to: its checkpoint's, when the job must reproduce. Empty:
// any.
[[nodiscard]] std::string BoundDeviceClass(const Job& job);

// Workers of one device class that could take a member of a job.
struct ClassSupply {
  std::string device_kind;
  // Enough free slots now; those on which the job's last generation failed come last, then fewest
  // free slots first, then by name.
  std::vector<const Worker*> free;
  int32_t doubtful = 0;  // of `free`, those on which it failed
  int32_t existing = 0;  // connected and not draining, free or not
  int32_t draining = 0;  // connected, would fit, but being drained
};
// By device class; classes with nothing at all are left out.
using Supply = std::map<std::string, ClassSupply>;
[[nodiscard]] Supply SupplyFor(const ClusterState& state, const Job& job);

// Workers that the job's queue may still hand out to it, once its own last gang has given back its.
[[nodiscard]] int32_t QueueAllowance(const ClusterState& state, const Job& job);

// Whether the job needs more workers than its queue may ever use.
[[nodiscard]] bool IsAboveQueueLimit(const ClusterState& state, const Job& job);

// What is kept for jobs that were served before: whole device kinds, or single classes.
struct Reserved {
  std::set<std::string> kinds;
  std::set<std::string> classes;
};

enum class Fit : uint8_t {
  kPlaced,     // `members` is the gang
  kTooFew,     // not even all workers that exist would do
  kBusy,       // enough exist, not enough are free; or its last gang still stops
  kGathering,  // enough are free for a smaller gang, and more may be on their way
};

struct GangChoice {
  Fit fit = Fit::kTooFew;
  std::string device_class;
  std::vector<GangMember> members;
};

// The gang that the job would get from what of `supply` is not reserved. `allowance` bounds the
// gang's size from above and must be at least the job's min_workers.
[[nodiscard]] GangChoice ChooseGang(const Job& job, const Supply& supply, const Reserved& reserved,
                                    int32_t allowance, bool gathering);

// Queued jobs in the order of service: by priority, then by age, from all queues of all device
// kinds. Calls visit(job) for each until it has no more; what visit returns says how to go on.
enum class Visit : uint8_t {
  kNext,       // the next job
  kCloseLane,  // no more jobs of this queue and device kind
  kCloseKind,  // no more jobs that ask for this device kind
  kCloseAll,   // no more jobs
};

class QueueWalk {
 public:
  explicit QueueWalk(const ClusterState& state) : state_(state) {
    for (const auto& [key, lane] : state.lanes) heads_.push_back(Head{key, *lane.begin(), false});
  }
  // Null at the end. Jobs may leave the state's lanes between calls; none may enter them.
  [[nodiscard]] const Job* Next();
  // About the job that Next() gave last.
  void Tell(Visit visit);

 private:
  struct Head {
    LaneKey key;
    Lane::value_type at;
    bool taken = false;  // `at` was visited: continue after it
  };
  // Moves to the first entry not visited yet; false when the lane is at its end.
  [[nodiscard]] bool Advance(Head& head) const;

  const ClusterState& state_;
  std::vector<Head> heads_;
  size_t last_ = 0;
};

}  // namespace weft::coordinator
