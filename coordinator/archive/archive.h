// The step history and the logs for code on the event loop: the blocking work runs on a loop of its
// own, the answers come back.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/time/event_loop.h"
#include "coordinator/archive/log_store.h"
#include "coordinator/archive/step_history.h"

namespace weft::coordinator {

// All methods but Stop on the loop; so are the calls of `done`, in the order of the requests. A
// request over the limit of waiting ones is refused with kResourceExhausted.
class Archive {
 public:
  template <class T>
  using Done = absl::AnyInvocable<void(absl::StatusOr<T>)>;

  // Nothing is owned. `archive_loop` must be stopped before the archive dies, and before `loop`.
  Archive(EventLoop& loop, EventLoop& archive_loop, StepHistory& steps, LogStore& logs)
      : loop_(loop), archive_loop_(archive_loop), steps_(steps), logs_(logs) {}
  Archive(const Archive&) = delete;
  Archive& operator=(const Archive&) = delete;

  // As StepHistory::Append and Fill. What cannot be kept is said in our own log, too.
  void AppendSteps(JobId job, std::vector<v1::StepReport> steps, Done<bool> done);
  void FillSteps(JobId job, std::vector<v1::StepReport> steps, Done<bool> done);
  void ReadSteps(JobId job, int64_t after, int64_t limit, int64_t max_points,
                 Done<std::vector<v1::StepReport>> done);
  // As LogStore::Append; `job` is the job's name.
  void AppendLogs(std::string job, std::string worker, int64_t first,
                  std::vector<v1::LogLine> lines, Done<int64_t> done);
  void ReadLogs(std::string job, int64_t position, std::optional<int32_t> rank, int64_t max_bytes,
                Done<LogStore::Chunk> done);
  // `lines` = 0: all of them.
  void FindLogTail(std::string job, int64_t lines, std::optional<int32_t> rank, Done<int64_t> done);
  // Forgets all of a job.
  void Delete(JobId id, std::string name);
  // From here on what waits is answered with kUnavailable and not done, deletions apart: a disk or
  // a database that does not answer must not hold up the end. Any thread.
  void Stop() { stopping_ = true; }

 private:
  template <class T>
  void Run(absl::AnyInvocable<absl::StatusOr<T>()> work, Done<T> done);
  void KeepSteps(JobId job, absl::AnyInvocable<absl::Status()> keep, Done<bool> done);
  bool Admit();

  EventLoop& loop_;
  EventLoop& archive_loop_;
  StepHistory& steps_;
  LogStore& logs_;
  int64_t waiting_ = 0;
  std::atomic<bool> stopping_ = false;
};

}  // namespace weft::coordinator
