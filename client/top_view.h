// What `weft top` shows: one look at a cluster as text.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "weft/v1/job.pb.h"
#include "weft/v1/worker.pb.h"

namespace weft::client {

struct ClusterView {
  std::string address;
  std::vector<v1::Job> jobs;
  std::vector<v1::Worker> workers;
};

// A line of totals, the jobs (those that run first), the workers.
std::string TopText(const ClusterView& view, absl::Time now);

// Cut to a screen: lines to its columns, and a last line that says how many are missing. Every line
// clears what stood behind it.
std::string FitScreen(const std::string& text, int columns, int rows);

}  // namespace weft::client
