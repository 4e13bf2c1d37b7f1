// What every service of the coordinator works with. Nothing is owned.
#pragma once

#include <string>

#include "common/metrics/metrics_sink.h"
#include "common/time/event_loop.h"
#include "coordinator/archive/archive.h"
#include "coordinator/driver.h"
#include "coordinator/service/job_board.h"
#include "coordinator/service/loop_stream.h"

namespace weft::coordinator {

struct ServiceContext {
  EventLoop& loop;
  Driver& driver;
  Archive& archive;
  JobBoard& board;
  OpenStreams& streams;
  MetricsSink& metrics;
  std::string version;          // of this program
  std::string incarnation;      // of this process
  std::string checkpoint_root;  // folder of all jobs' checkpoints, as the workers see it

  // Hands an event to the driver and takes the time. Loop thread.
  void Handle(const Event& event, Driver::Done done = nullptr) const;
  // kNotFound, with the resource's name. Loop thread.
  [[nodiscard]] absl::StatusOr<const Job*> FindJob(absl::string_view field,
                                                   const std::string& resource) const;
};

}  // namespace weft::coordinator
