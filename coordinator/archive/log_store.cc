#include "coordinator/archive/log_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/file_system.h"
#include "coordinator/archive/log_line.h"

namespace weft::coordinator {
namespace {

constexpr int64_t kBlockBytes = 256 << 10;
constexpr int64_t kMaxHeaderBytes = 1 << 20;
constexpr absl::string_view kHeaderBegin = "# log base=";

// Calls `use(line, end)` for every whole line of `text`; `end` is the offset behind its line break.
template <class Use>
void ForEachLine(absl::string_view text, Use use) {
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != absl::string_view::npos; begin = end + 1) {
    use(text.substr(begin, end - begin), static_cast<int64_t>(end + 1));
  }
}

// All bytes or none.
absl::Status AppendToFile(const std::string& path, absl::string_view bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return absl::ErrnoToStatus(errno, path);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  const off_t before = lseek(fd, 0, SEEK_END);
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const absl::Status status = absl::ErrnoToStatus(errno, path);
      return ftruncate(fd, before) == 0 ? status : absl::DataLossError(status.message());
    }
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

}  // namespace

LogStore::LogStore(Options options) : options_(std::move(options)) {}

std::string LogStore::PathOf(const std::string& job) const {
  return JoinPath(options_.directory, absl::StrCat(job, ".log"));
}

absl::StatusOr<int64_t> LogStore::Append(const std::string& job, const std::string& worker,
                                         int64_t first, absl::Span<const v1::LogLine> lines) {
  WEFT_ASSIGN_OR_RETURN(Log* const log, Open(job));
  Source source = log->sources[worker];
  // A worker whose disk was emptied counts from the beginning again. Its lines are new all the
  // same, which their times show.
  if (first < source.next && !lines.empty() && MicrosOf(lines[0].time()) > source.last_micros) {
    source.next = first;
  }
  std::string bytes;
  int64_t number = first;
  for (const v1::LogLine& line : lines) {
    if (number >= source.next) {
      bytes += FormatLogLine(line, worker, number);
      source.next = number + 1;
      source.last_micros = std::max(source.last_micros, MicrosOf(line.time()));
    }
    ++number;
  }
  if (!bytes.empty()) {
    if (log->current.header_bytes == 0 || log->current.bytes >= options_.max_bytes_per_job / 2) {
      WEFT_RETURN_IF_ERROR(Rotate(job, *log));
    }
    WEFT_RETURN_IF_ERROR(AppendToFile(PathOf(job), bytes));
    log->current.bytes += static_cast<int64_t>(bytes.size());
  }
  log->sources[worker] = source;
  return source.next;
}

absl::Status LogStore::Rotate(const std::string& job, Log& log) {
  const std::string path = PathOf(job);
  // The header carries what the dropped lines would have told after a restart.
  std::string header = absl::StrCat(kHeaderBegin, log.End());
  for (const auto& [worker, source] : log.sources) {
    absl::StrAppend(&header, " ", worker, ":", source.next, ":", source.last_micros);
  }
  header += "\n";
  if (log.current.header_bytes != 0) {
    WEFT_RETURN_IF_ERROR(RealFileSystem().Rename(path, path + ".1"));
    log.previous = log.current;
  } else {
    // A crash may have left a file without a whole header.
    WEFT_RETURN_IF_ERROR(RealFileSystem().RemoveTree(path));
  }
  log.current = {.header_bytes = 0, .base = log.End(), .bytes = 0};
  WEFT_RETURN_IF_ERROR(AppendToFile(path, header));
  log.current.header_bytes = static_cast<int64_t>(header.size());
  return absl::OkStatus();
}

absl::StatusOr<LogStore::Log*> LogStore::Open(const std::string& job) {
  if (const auto found = logs_.find(job); found != logs_.end()) return &found->second;
  Log log;
  const std::string path = PathOf(job);
  absl::StatusOr<File> previous = Load(path + ".1", log.sources);
  if (previous.ok()) {
    log.previous = *previous;
  } else if (!absl::IsNotFound(previous.status())) {
    return previous.status();
  }
  absl::StatusOr<File> current = Load(path, log.sources);
  if (current.ok()) {
    log.current = *current;
  } else if (!absl::IsNotFound(current.status())) {
    return current.status();
  } else if (log.previous.has_value()) {
    log.current.base = log.previous->base + log.previous->bytes;
  }
  return &logs_.emplace(job, std::move(log)).first->second;
}

absl::StatusOr<LogStore::File> LogStore::Load(const std::string& path,
                                              std::map<std::string, Source>& sources) {
  FileSystem& files = RealFileSystem();
  WEFT_ASSIGN_OR_RETURN(std::string text, files.Read(path, 0, kMaxHeaderBytes));
  File file;
  const size_t header_end = text.find('\n');
  absl::string_view header = absl::string_view(text).substr(0, header_end);
  if (header_end == std::string::npos || !absl::ConsumePrefix(&header, kHeaderBegin)) {
    return absl::NotFoundError(absl::StrCat(path, ": no log of ours"));  // begun anew
  }
  const std::vector<absl::string_view> words = absl::StrSplit(header, ' ');
  if (!absl::SimpleAtoi(words[0], &file.base)) {
    return absl::NotFoundError(absl::StrCat(path, ": no log of ours"));
  }
  for (size_t i = 1; i < words.size(); ++i) {
    const std::vector<absl::string_view> parts = absl::StrSplit(words[i], ':');
    Source source;
    if (parts.size() == 3 && absl::SimpleAtoi(parts[1], &source.next) &&
        absl::SimpleAtoi(parts[2], &source.last_micros)) {
      sources[std::string(parts[0])] = source;
    }
  }
  file.header_bytes = static_cast<int64_t>(header_end) + 1;
  for (int64_t offset = file.header_bytes;; offset = file.header_bytes + file.bytes) {
    WEFT_ASSIGN_OR_RETURN(text, files.Read(path, offset, kBlockBytes));
    int64_t whole = 0;
    ForEachLine(text, [&](absl::string_view line, int64_t end) {
      whole = end;
      if (const auto parsed = ParseLogLine(line); parsed.has_value()) {
        Source& source = sources[parsed->line.worker()];
        source.next = parsed->number + 1;
        source.last_micros = std::max(source.last_micros, MicrosOf(parsed->line.time()));
      }
    });
    file.bytes += whole;
    if (whole == 0) break;
  }
  // What a crash left of a line goes, so that the next one begins at its beginning.
  if (truncate(path.c_str(), file.header_bytes + file.bytes) != 0) {
    return absl::ErrnoToStatus(errno, path);
  }
  return file;
}

absl::StatusOr<std::string> LogStore::ReadRaw(const std::string& job, const Log& log,
                                              int64_t position, int64_t max_bytes) {
  const bool in_previous = log.previous.has_value() && position < log.current.base;
  const File& file = in_previous ? *log.previous : log.current;
  const int64_t offset = position - file.base;
  const int64_t bytes = std::min(max_bytes, file.bytes - offset);
  if (bytes <= 0) return std::string();
  const std::string path = in_previous ? PathOf(job) + ".1" : PathOf(job);
  return RealFileSystem().Read(path, file.header_bytes + offset, bytes);
}

absl::StatusOr<LogStore::Chunk> LogStore::Read(const std::string& job, int64_t position,
                                               std::optional<int32_t> rank, int64_t max_bytes) {
  WEFT_ASSIGN_OR_RETURN(const Log* const log, Open(job));
  Chunk chunk;
  chunk.next = std::clamp(position, log->Begin(), log->End());
  // At least one whole line: its text is bounded.
  WEFT_ASSIGN_OR_RETURN(const std::string text,
                        ReadRaw(job, *log, chunk.next, std::max<int64_t>(max_bytes, 32 << 10)));
  int64_t whole = 0;
  ForEachLine(text, [&](absl::string_view line, int64_t end) {
    whole = end;
    std::optional<ParsedLogLine> parsed = ParseLogLine(line);
    if (parsed.has_value() && (!rank.has_value() || parsed->line.rank() == *rank)) {
      parsed->line.set_next_position(chunk.next + end);
      chunk.lines.push_back(std::move(parsed->line));
    }
  });
  chunk.next += whole;
  chunk.at_end = chunk.next >= log->End() || whole == 0;
  return chunk;
}

absl::StatusOr<int64_t> LogStore::FindTail(const std::string& job, int64_t lines,
                                           std::optional<int32_t> rank) {
  WEFT_ASSIGN_OR_RETURN(const Log* const log, Open(job));
  const int64_t begin = log->Begin();
  // A window at the end, widened until it holds enough lines.
  for (int64_t window = kBlockBytes;; window *= 4) {
    const int64_t start = std::max(begin, log->End() - window);
    std::deque<int64_t> positions;
    int64_t position = start;
    bool at_line_start = start == begin;
    while (position < log->End()) {
      WEFT_ASSIGN_OR_RETURN(const std::string text, ReadRaw(job, *log, position, kBlockBytes));
      int64_t line_start = 0;
      ForEachLine(text, [&](absl::string_view line, int64_t end) {
        bool counts = at_line_start;  // the window may begin within a line
        if (counts && rank.has_value()) {
          const auto parsed = ParseLogLine(line);
          counts = parsed.has_value() && parsed->line.rank() == *rank;
        }
        if (counts) positions.push_back(position + line_start);
        if (static_cast<int64_t>(positions.size()) > lines) positions.pop_front();
        at_line_start = true;
        line_start = end;
      });
      if (line_start == 0) break;
      position += line_start;
    }
    if (static_cast<int64_t>(positions.size()) == lines && lines > 0) return positions.front();
    if (start == begin) return begin;
  }
}

absl::Status LogStore::Delete(const std::string& job) {
  logs_.erase(job);
  WEFT_RETURN_IF_ERROR(RealFileSystem().RemoveTree(PathOf(job)));
  return RealFileSystem().RemoveTree(PathOf(job) + ".1");
}

}  // namespace weft::coordinator
