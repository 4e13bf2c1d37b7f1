// Runs the core on the event loop: decide -> commit -> apply -> send. One commit is in flight at a
// time; events that come meanwhile are decided ahead and share the next one (group commit).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/time/event_loop.h"
#include "coordinator/core/decide.h"
#include "coordinator/store/job_store.h"

namespace weft::coordinator {

// The way to the workers. Fire and forget: a command may be lost, late or doubled.
class WorkerLink {
 public:
  virtual ~WorkerLink() = default;
  virtual void Send(const Command& command) = 0;  // loop thread
};

// Who wants to know: watch streams, metrics, logs. All on the loop thread; must not call the
// driver.
class DriverObserver {
 public:
  virtual ~DriverObserver() = default;
  // `facts` are durable (those that need to be) and applied: `state` is after the last of them.
  virtual void OnFacts(absl::Span<const Fact> facts, const ClusterState& state) = 0;
  // A commit of `facts` facts came back after `took`.
  virtual void OnCommit(const absl::Status& status, int64_t facts, absl::Duration took) = 0;
  // The driver will do nothing any more; the process should end with this reason.
  virtual void OnSteppedDown(const absl::Status& why) = 0;
};

class Driver {
 public:
  // Called on the loop, after the facts of the event were committed: Outcome::reply, or why they
  // could not be: kResourceExhausted or kUnavailable, ask again. Nothing happened, unless this is
  // not the coordinator any more (kUnavailable, too): then the next one knows whether it did.
  using Done = absl::AnyInvocable<void(absl::StatusOr<JobId>)>;

  struct Options {
    Policy policy;
    // More undecided or uncommitted events than this and Handle() refuses requests that have a Done
    // with kResourceExhausted; messages of workers are dropped, for they repeat themselves.
    int64_t max_pending = 20000;
  };

  // Nothing is owned. `loop` runs the driver; `store_loop` runs the store's blocking calls, and may
  // not be `loop` itself. Both must be stopped before the driver dies. `observer` may be null.
  Driver(EventLoop& loop, EventLoop& store_loop, JobStore& store, WorkerLink& link,
         DriverObserver* observer, const Options& options);
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  // Takes over what the store loaded and begins adoption. Once, on the loop, before any event.
  void Start(StoredCluster loaded);

  // Another coordinator may lead: nothing more is decided or sent. Loop thread; idempotent.
  void StepDown(const absl::Status& why);

  // Loop thread. `done` may be null.
  void Handle(const Event& event, Done done = nullptr);

  // What is committed: the only state that anybody outside may see. Loop thread.
  [[nodiscard]] const ClusterState& state() const { return committed_; }
  [[nodiscard]] const Policy& policy() const { return options_.policy; }
  [[nodiscard]] bool stepped_down() const { return stepped_down_; }
  // Events that wait for a commit. Loop thread.
  [[nodiscard]] int64_t pending() const;

 private:
  struct Step {  // one decided event
    Outcome outcome;
    Done done;
  };

  void CommitNext();
  void OnStored(const absl::StatusOr<StoreVersion>& stored, absl::Time begun, int64_t facts);
  void Release(std::vector<Step> steps);
  // What was decided ahead is void: answers `why`, and decides from the committed state again.
  void TakeBack(const absl::Status& why);
  void AnswerAll(const absl::Status& why);
  void ArmTimer(absl::Time when);

  EventLoop& loop_;
  EventLoop& store_loop_;
  JobStore& store_;
  WorkerLink& link_;
  DriverObserver* const observer_;
  const Options options_;

  ClusterState committed_;
  ClusterState ahead_;  // committed_ plus the facts of in_flight_ and waiting_
  StoreVersion version_;
  std::vector<Step> in_flight_;  // being committed
  std::vector<Step> waiting_;    // decided; in the next commit
  bool committing_ = false;
  bool releasing_ = false;
  bool started_ = false;
  bool stepped_down_ = false;
  std::optional<TimerId> timer_;
  absl::Time timer_at_ = absl::InfiniteFuture();
  bool timer_posted_ = false;  // a TimerFired is in the loop's queue
};

}  // namespace weft::coordinator
