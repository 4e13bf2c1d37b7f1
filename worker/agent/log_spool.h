// LogSpool: the lines that jobs printed on this worker, on disk until the coordinator has them and
// a while longer. Each job has a folder of segment files; when a job's lines exceed their limit the
// oldest segment goes, and a line in its place says how much is missing.
//
// Lines of a job are numbered from 0 on this worker; the numbers go on when the agent restarts, and
// when a job that this agent swept prints again.
// What a crash of the machine cuts off at the end is lost, nothing else.
//
// Threads: every method may be called from any thread. Append waits for the disk, and that is
// meant: a rank that prints faster than the disk takes it is slowed down by its full pipe.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/process/file_descriptor.h"

namespace weft::worker {

struct SpooledLine {
  absl::Time time;
  int rank = 0;  // -1: the agent, the relays
  int64_t generation = 0;
  std::string text;  // valid UTF-8, no line end
};

struct SpoolLimits {
  int64_t segment_bytes = int64_t{1} << 20;
  int64_t job_bytes = int64_t{16} << 20;
  // Of all jobs; jobs that run are never removed for it.
  int64_t total_bytes = int64_t{512} << 20;
};

class LogSpool {
 public:
  // Takes up what an earlier agent left in `directory`. Errors name the path.
  static absl::StatusOr<std::unique_ptr<LogSpool>> Open(std::filesystem::path directory,
                                                        SpoolLimits limits);

  // `job` is a job's id: a plain name, checked by the caller. Lines that cannot be written (a full
  // disk) are dropped, counted, and a line says so as soon as one can be written again.
  void Append(const std::string& job, const SpooledLine& line);

  struct Batch {
    int64_t first = 0;  // number of lines[0]; above what was asked for when those are gone
    std::vector<SpooledLine> lines;
  };
  // Lines from number `from` on, at most `max_bytes` of text but at least one line; empty when
  // there are none.
  Batch Read(const std::string& job, int64_t from, int64_t max_bytes);
  // One past the last line, also of a job that was swept.
  int64_t End(const std::string& job) const;
  std::vector<std::string> Jobs() const;
  // Removes the folders of jobs that are not in `keep` and that nobody wrote to since `before`;
  // then the oldest of them until the total limit holds.
  void Sweep(const std::set<std::string>& keep, absl::Time before);

  // These two never wait for the disk.
  int64_t bytes() const { return bytes_; }
  int64_t dropped_lines() const { return dropped_; }

  // Called after each Append, on its thread, without the spool's lock.
  void set_on_append(std::function<void(const std::string& job)> callback);

 private:
  struct Segment {
    int64_t first = 0;  // number of its first line
    int64_t lines = 0;
    int64_t bytes = 0;
  };
  struct Job {
    std::deque<Segment> segments;  // ascending; the last one is written to
    FileDescriptor file;           // of the last segment, open for appending; opened when needed
    int64_t bytes = 0;
    int64_t unwritten = 0;  // lines dropped since the last one that could be written
    absl::Time touched = absl::InfinitePast();
  };

  LogSpool(std::filesystem::path directory, SpoolLimits limits)
      : directory_(std::move(directory)), limits_(limits) {}

  int64_t EndOf(const std::string& job) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::filesystem::path PathOf(const std::string& job, int64_t first) const;
  absl::Status Load() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status LoadJob(const std::filesystem::path& folder) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Write(const std::string& name, Job& job, const SpooledLine& line)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool OpenSegment(const std::string& name, Job& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropOldest(const std::string& name, Job& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemoveJob(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::filesystem::path directory_;
  const SpoolLimits limits_;
  mutable absl::Mutex mutex_;
  std::map<std::string, Job> jobs_ ABSL_GUARDED_BY(mutex_);
  // Of jobs that were swept, where their numbers go on: who reads them remembers how far it was.
  std::map<std::string, int64_t> swept_ends_ ABSL_GUARDED_BY(mutex_);
  // Changed with the lock held.
  std::atomic<int64_t> bytes_ = 0;
  std::atomic<int64_t> dropped_ = 0;
  std::function<void(const std::string&)> on_append_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weft::worker
