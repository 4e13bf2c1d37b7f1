// The numbers that steer the scheduler. Times are those of the coordinator's clock.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace weft::coordinator {

struct Policy {
  // Workers are asked to send a heartbeat this often.
  absl::Duration heartbeat_interval = absl::Seconds(1);
  // Silence on an open stream for this long: the worker is lost.
  absl::Duration heartbeat_timeout = absl::Seconds(5);
  // After its stream closed a worker has this long to come back with everything still running.
  absl::Duration reconnect_grace = absl::Seconds(1);
  // The same, after the coordinator itself was away: agents back off while they find nobody.
  absl::Duration adoption_grace = absl::Seconds(30);
  // For this long after its start the coordinator places only gangs of full size: the other workers
  // are likely to be on their way.
  absl::Duration gather_time = absl::Seconds(2);
  // From the placement of a gang until every member trains (it restores a checkpoint meanwhile).
  absl::Duration start_timeout = absl::Minutes(10);
  // How long a gang may take to save before it is stopped without.
  absl::Duration save_timeout = absl::Minutes(2);
  // How long a member may take to end before it is given up and its job goes on elsewhere.
  absl::Duration release_timeout = absl::Seconds(30);
  // A member that was placed, but that heartbeats list for this long neither as running nor as
  // ended, is over. (While it only has not started yet, its StartMember is sent again instead.)
  absl::Duration missing_grace = absl::Seconds(3);
  // A worker that is lost and holds nothing disappears from the list after this.
  absl::Duration forget_lost_worker = absl::Hours(1);
  // A wake-up that is later than this shows that the coordinator itself was stopped.
  absl::Duration stall_tolerance = absl::Seconds(2);
  // More lost hosts than this with no new checkpoint between them count as failures of the job: it
  // may be what brings its hosts down.
  int max_losses_without_progress = 5;
  // More jobs than this in the state QUEUED, and a submit is refused.
  int max_queued_jobs = 100000;

  // All problems at once, or OK.
  [[nodiscard]] absl::Status Validate() const;
};

}  // namespace weft::coordinator
