// What Prometheus' own client libraries tell of every process: its processor time, memory and open
// files.
#pragma once

#include "common/metrics/metrics_sink.h"

namespace weft {

class ProcessMetrics {
 public:
  explicit ProcessMetrics(MetricsSink& sink) : sink_(sink) {}

  // Reads /proc/self and sets the process_* series; a few microseconds. What cannot be read is left
  // out. One thread at a time.
  void Measure();

 private:
  MetricsSink& sink_;
  double counted_seconds_ = 0;  // of processor time, in the counter already
};

}  // namespace weft
