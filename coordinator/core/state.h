// Everything the coordinator knows, and the only function that changes it. A ClusterState is a
// plain value: copied freely, rebuilt by applying stored facts to an empty one. No threads.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/core/events.h"
#include "coordinator/core/facts.h"
#include "coordinator/core/ids.h"
#include "coordinator/core/job.h"

namespace weft::coordinator {

enum class WorkerConnection : uint8_t {
  kAbsent,     // not (yet) here; its ranks may run; lost at `deadline`
  kConnected,  // here; lost when silent until `deadline`
  kLost,       // given up; forgotten at `deadline`
};
[[nodiscard]] const char* ToString(WorkerConnection connection);  // "CONNECTED"

// A gang's member on a worker.
struct Placement {
  Generation generation;
  int32_t slots = 1;
  bool seen = false;                                  // a heartbeat of this stream listed it
  absl::Time missing_since = absl::InfiniteFuture();  // heartbeats no longer list it, or not yet:
                                                      // neither as running nor as ended
  // Placed before the coordinator's start: its worker, when it leaves, has this long to return.
  absl::Time adopt_until = absl::InfinitePast();
  friend bool operator==(const Placement&, const Placement&) = default;
};

struct Worker {
  WorkerName name;
  WorkerOffer offer;
  bool draining = false;  // takes nothing new; drained once it holds nothing
  std::string drain_reason;
  Incarnation drained_incarnation;  // not empty: the drain ends when another one joins
  absl::Time registered = absl::InfinitePast();

  // Learnt anew after every restart of the coordinator:
  WorkerConnection connection = WorkerConnection::kAbsent;
  Incarnation incarnation;  // of the last stream; empty = none since the coordinator started
  int64_t sequence = 0;     // of the last heartbeat heard from that incarnation
  absl::Time last_seen = absl::InfinitePast();
  absl::Time deadline = absl::InfiniteFuture();
  std::string lost_why;
  std::vector<MemberReport> running;  // as last heard

  // Derived from the gangs: the members that may still run here.
  std::map<JobId, Placement> placed;

  // Slots that are neither placed nor taken by ranks that no gang knows (left over from a time when
  // the worker was given up).
  [[nodiscard]] int32_t FreeSlots() const;
  [[nodiscard]] bool IsDrained() const { return draining && FreeSlots() == offer.slots; }
  // May take new members.
  [[nodiscard]] bool IsSchedulable() const {
    return connection == WorkerConnection::kConnected && !draining;
  }
  friend bool operator==(const Worker&, const Worker&) = default;
};

struct Queue {
  QueueSettings settings;
  int32_t jobs = 0;          // that have not finished
  int32_t queued_jobs = 0;   // QUEUED
  int32_t held_workers = 0;  // by members that may still run
  friend bool operator==(const Queue&, const Queue&) = default;
};

// Queued jobs that compete for the same workers under the same limit, in the order of service.
struct LaneKey {
  std::string device_kind;
  QueueName queue;
  // clang-tidy 14 takes the comparison that it generates for a literal 0.
  friend auto operator<=>(const LaneKey&,
                          const LaneKey&) = default;  // NOLINT(modernize-use-nullptr)
};
using Lane = std::set<std::pair<int64_t /* -priority */, JobId>>;

struct ClusterState {
  ClusterState();  // the default queue exists

  std::map<JobId, Job> jobs;
  std::map<WorkerName, Worker> workers;
  std::map<QueueName, Queue> queues;
  JobId last_job;  // the next submit gets the following one
  absl::Time gather_until = absl::InfinitePast();
  int32_t queued_jobs = 0;

  // Indexes over the above, kept by Apply.
  absl::flat_hash_map<std::string, JobId> job_by_request;
  std::map<LaneKey, Lane> lanes;
  std::set<std::pair<absl::Time, JobId>> job_deadlines;
  std::set<std::pair<absl::Time, WorkerName>> worker_deadlines;

  // Null when there is none.
  [[nodiscard]] const Job* FindJob(JobId id) const;
  [[nodiscard]] const Job* FindJob(absl::string_view name) const;  // "demo-12"
  [[nodiscard]] const Worker* FindWorker(const WorkerName& name) const;
  [[nodiscard]] const Queue* FindQueue(const QueueName& name) const;
};

// The only function that changes a state. A fact about something that the state does not have is
// ignored: stored facts may come from a newer history than a snapshot's.
void Apply(ClusterState& state, const Fact& fact);

// A state from its durable parts: what stored facts would have built, if applied one by one. Of
// each worker only name, offer, the drain and registered are used.
[[nodiscard]] ClusterState RestoreState(std::vector<Job> jobs, std::vector<Worker> workers,
                                        std::vector<QueueSettings> queues, JobId last_job);

// kNotFound, which says what queues there are.
[[nodiscard]] absl::Status NoSuchQueue(const ClusterState& state, const QueueName& name);

// OK, or kInternal with the first broken rule. Walks the whole state: for tests and simulation, and
// once after loading.
[[nodiscard]] absl::Status CheckInvariants(const ClusterState& state);

}  // namespace weft::coordinator
