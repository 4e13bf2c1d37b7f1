// What `weft top` shows: one look at a cluster as text, and what its keys change in that.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "weft/v1/job.pb.h"
#include "weft/v1/worker.pb.h"

namespace weft::client {

struct ClusterView {
  std::string address;
  absl::Time time;  // of the look
  std::vector<v1::Job> jobs;
  std::vector<v1::Worker> workers;
};

enum class TopTables { kBoth, kJobs, kWorkers };
// Of the jobs: those that run before the others, by name, the furthest, the fastest, the newest
// first. Jobs that are equal in this stay in the coordinator's order.
enum class TopOrder { kState, kName, kDone, kSpeed, kAge };

// What somebody who looks has chosen.
struct TopChoice {
  TopTables tables = TopTables::kBoth;
  TopOrder order = TopOrder::kState;
  bool ended = false;  // show jobs that have ended, too
  int scroll = 0;      // lines of the tables above the screen
};

// A line of totals, the jobs, the workers.
std::string TopText(const ClusterView& view, const TopChoice& choice);

// The same as lines for a screen, whose last row is left for TopKeys: the totals stay, the tables
// scroll and leave out what matters least. `problem` is why the view is not of now; empty: it is.
// Brings `choice.scroll` back to where something is.
std::vector<std::string> TopLines(const ClusterView& view, const std::string& problem, int columns,
                                  int rows, TopChoice& choice);

// What the keys do, in a line.
std::string TopKeys(const TopChoice& choice);

// Does what a key (client/full_screen.h) does on a screen with so many rows; false when it ends
// the program.
bool PressTopKey(int key, int rows, TopChoice& choice);

}  // namespace weft::client
