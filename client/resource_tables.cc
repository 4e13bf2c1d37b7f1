#include "client/resource_tables.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "client/progress.h"
#include "client/session.h"
#include "client/text.h"

namespace weft::client {
namespace {

// Names joined by commas, as a cell without blanks.
template <typename Names>
std::string NamesCell(const Names& names) {
  return absl::StrJoin(
      names, ",", [](std::string* out, const std::string& name) { out->append(ShortName(name)); });
}

}  // namespace

std::string LossCell(const v1::Job& job) {
  return job.last_step().step() > 0 ? absl::StrFormat("%.3f", job.last_step().loss()) : "";
}

double TokensPerSecond(const v1::Job& job) {
  const v1::StepReport& step = job.last_step();
  if (job.state() != v1::Job::STATE_RUNNING || step.seconds() <= 0) return 0;
  return static_cast<double>(step.tokens()) / step.seconds();
}

std::string SpeedCell(const v1::Job& job) {
  const double speed = TokensPerSecond(job);
  return speed > 0 ? Count(speed) : "";
}

std::string ReasonCell(const v1::Job& job, absl::Time now) {
  if (job.state() != v1::Job::STATE_RUNNING) return job.reason();
  if (!job.has_last_failure()) return "";
  return absl::StrCat("last failure ", FailureText(job.last_failure(), now));
}

std::string WorkerStateName(const v1::Worker& worker) {
  return std::string(absl::StripPrefix(v1::Worker::State_Name(worker.state()), "STATE_"));
}

Table JobTable(const std::vector<v1::Job>& jobs, bool wide) {
  std::vector<std::string> titles = {"NAME", "STATE", "QUEUE",   "WORKERS",
                                     "STEP", "LOSS",  "METRICS", "RECOVERIES"};
  if (wide) {
    titles.insert(titles.end(),
                  {"VALIDATION", "TOKENS/S", "ETA", "CHECKPOINT", "GENERATION", "ON"});
  }
  titles.insert(titles.end(), {"AGE", "REASON"});
  if (wide) titles.push_back("LAST FAILURE");
  Table table(titles);
  const absl::Time now = absl::Now();
  for (const v1::Job& job : jobs) {
    std::vector<std::string> row = {
        ShortName(job.name()),
        StateName(job.state()),
        job.spec().queue(),
        absl::StrCat(job.workers_size()),
        absl::StrCat(job.last_step().step(), "/", job.spec().training().steps()),
        LossCell(job),
        ScoresOf(job.last_step()),
        absl::StrCat(job.recoveries())};
    if (wide) {
      row.push_back(job.has_validation_loss() ? absl::StrFormat("%.3f", job.validation_loss())
                                              : "");
      row.push_back(SpeedCell(job));
      row.push_back(job.has_eta() ? ShortDuration(absl::Seconds(job.eta().seconds())) : "");
      row.push_back(job.checkpoint_step() > 0 ? absl::StrCat(job.checkpoint_step()) : "");
      row.push_back(absl::StrCat(job.generation()));
      row.push_back(NamesCell(job.workers()));
    }
    row.push_back(Age(job.create_time(), now));
    if (wide) {
      row.push_back(job.state() == v1::Job::STATE_RUNNING ? "" : job.reason());
      row.push_back(job.has_last_failure() ? FailureText(job.last_failure(), now) : "");
    } else {
      row.push_back(ReasonCell(job, now));
    }
    table.Add(std::move(row));
  }
  return table;
}

Table WorkerTable(const std::vector<v1::Worker>& workers, bool wide) {
  std::vector<std::string> titles = {"NAME",    "STATE", "DEVICES",   "CLASS",
                                     "THREADS", "JOBS",  "HEARTBEAT", "AGE"};
  if (wide) titles.insert(titles.end(), {"ADDRESS", "VERSION"});
  Table table(titles);
  for (const v1::Worker& worker : workers) {
    int threads = 0;
    for (const v1::Device& device : worker.devices()) threads += device.threads();
    std::vector<std::string> row = {
        ShortName(worker.name()),
        WorkerStateName(worker),
        absl::StrCat(worker.devices_size()),
        worker.devices().empty() ? "" : worker.devices(0).device_class(),
        absl::StrCat(threads),
        NamesCell(worker.jobs()),
        Age(worker.heartbeat_time(), absl::Now()),
        Age(worker.join_time(), absl::Now())};
    if (wide) row.insert(row.end(), {worker.address(), worker.version()});
    table.Add(std::move(row));
  }
  return table;
}

Table QueueTable(const std::vector<v1::Queue>& queues, bool /*wide*/) {
  Table table({"NAME", "QUEUED", "RUNNING", "WORKERS", "LIMIT"});
  for (const v1::Queue& queue : queues) {
    table.Add({ShortName(queue.name()), absl::StrCat(queue.queued_jobs()),
               absl::StrCat(queue.running_jobs()), absl::StrCat(queue.used_workers()),
               queue.max_workers() == 0 ? "none" : absl::StrCat(queue.max_workers())});
  }
  return table;
}

Table CheckpointTable(const std::vector<v1::Checkpoint>& checkpoints, bool wide) {
  Table table({"NAME", "STEP", "SIZE", "WEIGHTS", "AGE", "PATH"});
  for (const v1::Checkpoint& checkpoint : checkpoints) {
    table.Add({ShortName(checkpoint.name()), absl::StrCat(checkpoint.step()),
               Bytes(checkpoint.bytes()),
               wide ? checkpoint.weights_hash() : checkpoint.weights_hash().substr(0, 16),
               Age(checkpoint.create_time(), absl::Now()), checkpoint.path()});
  }
  return table;
}

}  // namespace weft::client
