// The log lines of all jobs: one readable file a job, "<directory>/<job>.log", and the one before
// it,
// "<job>.log.1", once the file was full. Lines survive a crash of the process, not a power cut:
// what counts in a log is worth no fsync.
//
// Blocking; one thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "weft/v1/job.pb.h"

namespace weft::coordinator {

class LogStore {
 public:
  struct Options {
    std::string directory;                          // exists
    int64_t max_bytes_per_job = int64_t{64} << 20;  // both files together
  };

  // Lines of one job in the order of their arrival. Positions grow by what is appended and stay
  // valid when the oldest lines are dropped.
  struct Chunk {
    std::vector<v1::LogLine> lines;
    int64_t next = 0;  // where to read on
    bool at_end = false;
  };

  explicit LogStore(Options options);

  // Stores the lines of `worker` that it does not have yet; `first` is the number of the first of
  // them in that worker's own count. Returns the number of the first line that is not stored.
  // kResourceExhausted: the disk is full; nothing was stored.
  absl::StatusOr<int64_t> Append(const std::string& job, const std::string& worker, int64_t first,
                                 absl::Span<const v1::LogLine> lines);

  // About `max_bytes` of lines from `position` on, only those of `rank` if one is given; each knows
  // where to read on after it. A job without lines has an empty log. A position before the oldest
  // line means the oldest line.
  absl::StatusOr<Chunk> Read(const std::string& job, int64_t position, std::optional<int32_t> rank,
                             int64_t max_bytes);

  // The position of the last `lines` lines (of that rank); of the oldest line when there are fewer.
  absl::StatusOr<int64_t> FindTail(const std::string& job, int64_t lines,
                                   std::optional<int32_t> rank);

  absl::Status Delete(const std::string& job);

 private:
  // What is known of one worker's lines.
  struct Source {
    int64_t next = 0;         // number of its next line
    int64_t last_micros = 0;  // time of its last line
  };
  // A file: a header line, then lines. `base` is the position of the first of them.
  struct File {
    int64_t header_bytes = 0;
    int64_t base = 0;
    int64_t bytes = 0;  // of lines
  };
  struct Log {
    File current;
    std::optional<File> previous;
    std::map<std::string, Source> sources;
    [[nodiscard]] int64_t End() const { return current.base + current.bytes; }
    [[nodiscard]] int64_t Begin() const {
      return previous.has_value() ? previous->base : current.base;
    }
  };

  [[nodiscard]] std::string PathOf(const std::string& job) const;
  absl::StatusOr<Log*> Open(const std::string& job);
  absl::StatusOr<File> Load(const std::string& path, std::map<std::string, Source>& sources);
  absl::Status Rotate(const std::string& job, Log& log);
  absl::StatusOr<std::string> ReadRaw(const std::string& job, const Log& log, int64_t position,
                                      int64_t max_bytes);

  const Options options_;
  std::map<std::string, Log> logs_;  // those used since the start
};

}  // namespace weft::coordinator
