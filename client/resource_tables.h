// Resources as tables, for `weft get` and `weft top`. `wide` adds columns.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/table.h"
#include "weft/v1/checkpoint.pb.h"
#include "weft/v1/job.pb.h"
#include "weft/v1/queue.pb.h"
#include "weft/v1/worker.pb.h"

namespace weft::client {

Table JobTable(const std::vector<v1::Job>& jobs, bool wide);
Table WorkerTable(const std::vector<v1::Worker>& workers, bool wide);
Table QueueTable(const std::vector<v1::Queue>& queues, bool wide);
Table CheckpointTable(const std::vector<v1::Checkpoint>& checkpoints, bool wide);

// A number with three decimals; empty without one.
std::string LossCell(const v1::Job& job);
// Of the last step; 0 while the job does not run.
double TokensPerSecond(const v1::Job& job);
// The same; empty while the job does not run.
std::string SpeedCell(const v1::Job& job);
// Why the job is in its state. Of one that runs: what failed last, where something did.
std::string ReasonCell(const v1::Job& job, absl::Time now);
std::string WorkerStateName(const v1::Worker& worker);

}  // namespace weft::client
