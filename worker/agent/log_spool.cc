#include "worker/agent/log_spool.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"

namespace weft::worker {
namespace {

namespace fs = std::filesystem;

constexpr char kSuffix[] = ".log";

// "<microseconds> <rank> <generation> <text>\n": people can read a spool with cat.
std::string Encode(const SpooledLine& line) {
  return absl::StrCat(absl::ToUnixMicros(line.time), " ", line.rank, " ", line.generation, " ",
                      line.text, "\n");
}

// A line that is damaged keeps its place, with its bytes as the text.
SpooledLine Decode(const std::string& encoded) {
  SpooledLine line;
  absl::string_view rest = encoded;
  int64_t numbers[3] = {0, -1, 0};
  for (int64_t& number : numbers) {
    const size_t space = rest.find(' ');
    if (space == absl::string_view::npos || !absl::SimpleAtoi(rest.substr(0, space), &number)) {
      return SpooledLine{absl::UnixEpoch(), -1, 0, encoded};
    }
    rest.remove_prefix(space + 1);
  }
  line.time = absl::FromUnixMicros(numbers[0]);
  line.rank = static_cast<int>(numbers[1]);
  line.generation = numbers[2];
  line.text = std::string(rest);
  return line;
}

// Calls `take` for each whole line of a file until it returns false. A part of a line at the end,
// which a crash left, is not a line. Returns the bytes of the lines that were taken.
template <typename Take>
int64_t ForEachLine(const fs::path& path, const Take& take) {
  std::ifstream file(path, std::ios::binary);
  std::string line;
  int64_t bytes = 0;
  while (std::getline(file, line) && !file.eof()) {
    if (!take(line)) break;
    bytes += static_cast<int64_t>(line.size()) + 1;
  }
  return bytes;
}

bool WriteAll(int file, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(file, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LogSpool>> LogSpool::Open(fs::path directory, SpoolLimits limits) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot make ", directory.string()));
  }
  std::unique_ptr<LogSpool> spool(new LogSpool(std::move(directory), limits));
  const absl::MutexLock lock(&spool->mutex_);
  WEFT_RETURN_IF_ERROR(spool->Load());
  return spool;
}

absl::Status LogSpool::Load() {
  std::error_code error;
  for (fs::directory_iterator entry(directory_, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->is_directory()) WEFT_RETURN_IF_ERROR(LoadJob(entry->path()));
  }
  if (!error) return absl::OkStatus();
  return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot read ", directory_.string()));
}

absl::Status LogSpool::LoadJob(const fs::path& folder) {
  Job job;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::string name = entry->path().filename().string();
    Segment segment;
    if (!absl::EndsWith(name, kSuffix) ||
        !absl::SimpleAtoi(absl::StripSuffix(name, kSuffix), &segment.first)) {
      continue;  // not ours
    }
    segment.bytes = ForEachLine(entry->path(), [&segment](const std::string&) {
      ++segment.lines;
      return true;
    });
    // What a crash left of a last line would become part of the next one.
    fs::resize_file(entry->path(), static_cast<uintmax_t>(segment.bytes), error);
    job.bytes += segment.bytes;
    job.segments.push_back(segment);
  }
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot read ", folder.string()));
  }
  std::sort(job.segments.begin(), job.segments.end(),
            [](const Segment& a, const Segment& b) { return a.first < b.first; });
  struct stat last {};
  if (!job.segments.empty() &&
      stat((folder / absl::StrFormat("%012d%s", job.segments.back().first, kSuffix)).c_str(),
           &last) == 0) {
    job.touched = absl::FromTimeT(last.st_mtime);
  }
  bytes_ += job.bytes;
  jobs_[folder.filename().string()] = std::move(job);
  return absl::OkStatus();
}

fs::path LogSpool::PathOf(const std::string& job, int64_t first) const {
  return directory_ / job / absl::StrFormat("%012d%s", first, kSuffix);
}

void LogSpool::Append(const std::string& name, const SpooledLine& line) {
  std::function<void(const std::string&)> on_append;
  {
    const absl::MutexLock lock(&mutex_);
    Job& job = jobs_[name];
    job.touched = absl::Now();
    if (job.unwritten > 0) {
      const SpooledLine gap{line.time, -1, line.generation,
                            absl::StrCat(job.unwritten,
                                         " lines were lost here: they could not be "
                                         "written to the worker's disk")};
      if (Write(name, job, gap)) job.unwritten = 0;
    }
    if (job.unwritten > 0 || !Write(name, job, line)) {
      ++job.unwritten;
      ++dropped_;
    }
    on_append = on_append_;
  }
  if (on_append) on_append(name);
}

bool LogSpool::OpenSegment(const std::string& name, Job& job) {
  if (job.segments.empty() || job.segments.back().bytes >= limits_.segment_bytes) {
    job.file.Close();
    job.segments.push_back(Segment{EndOf(name), 0, 0});
  }
  if (job.file.is_open()) return true;
  std::error_code ignored;  // the open below tells
  fs::create_directories(directory_ / name, ignored);
  const fs::path path = PathOf(name, job.segments.back().first);
  job.file = FileDescriptor(open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
  return job.file.is_open();
}

bool LogSpool::Write(const std::string& name, Job& job, const SpooledLine& line) {
  if (!OpenSegment(name, job)) return false;
  Segment& segment = job.segments.back();
  const std::string encoded = Encode(line);
  if (!WriteAll(job.file.get(), encoded)) {
    // Part of the line may be there.
    if (ftruncate(job.file.get(), segment.bytes) != 0) job.file.Close();
    return false;
  }
  const int64_t added = static_cast<int64_t>(encoded.size());
  ++segment.lines;
  segment.bytes += added;
  job.bytes += added;
  bytes_ += added;
  while (job.bytes > limits_.job_bytes && job.segments.size() > 1) DropOldest(name, job);
  return true;
}

void LogSpool::DropOldest(const std::string& name, Job& job) {
  const Segment gone = job.segments.front();
  job.segments.pop_front();
  std::error_code ignored;  // what cannot be removed is swept later
  fs::remove(PathOf(name, gone.first), ignored);
  job.bytes -= gone.bytes;
  bytes_ -= gone.bytes;
  dropped_ += gone.lines;
}

LogSpool::Batch LogSpool::Read(const std::string& name, int64_t from, int64_t max_bytes) {
  const absl::MutexLock lock(&mutex_);
  Batch batch;
  batch.first = from;
  const auto found = jobs_.find(name);
  if (found == jobs_.end()) return batch;
  for (const Segment& segment : found->second.segments) {
    if (segment.first + segment.lines <= from) continue;
    int64_t number = segment.first;
    int64_t budget = max_bytes;
    ForEachLine(PathOf(name, segment.first), [&](const std::string& line) {
      if (number++ < from) return true;
      budget -= static_cast<int64_t>(line.size());
      if (budget < 0 && !batch.lines.empty()) return false;
      batch.lines.push_back(Decode(line));
      return true;
    });
    if (!batch.lines.empty() && segment.first > from) {
      // The oldest lines are gone, and the number of the last of them is free for a note. It has
      // the time of the line behind it: no line is younger than its successor.
      SpooledLine note{batch.lines.front().time, -1, batch.lines.front().generation,
                       absl::StrCat(segment.first - from,
                                    " lines are missing here: the job printed more than its worker "
                                    "keeps")};
      batch.first = segment.first - 1;
      batch.lines.insert(batch.lines.begin(), std::move(note));
    }
    break;  // one segment a batch: the next call goes on
  }
  return batch;
}

int64_t LogSpool::End(const std::string& name) const {
  const absl::MutexLock lock(&mutex_);
  return EndOf(name);
}

int64_t LogSpool::EndOf(const std::string& name) const {
  const auto found = jobs_.find(name);
  if (found != jobs_.end() && !found->second.segments.empty()) {
    return found->second.segments.back().first + found->second.segments.back().lines;
  }
  const auto swept = swept_ends_.find(name);
  return swept == swept_ends_.end() ? 0 : swept->second;
}

std::vector<std::string> LogSpool::Jobs() const {
  const absl::MutexLock lock(&mutex_);
  std::vector<std::string> names;
  names.reserve(jobs_.size());
  for (const auto& [name, job] : jobs_) names.push_back(name);
  return names;
}

void LogSpool::RemoveJob(const std::string& name) {
  std::error_code ignored;  // tried again at the next start
  fs::remove_all(directory_ / name, ignored);
  swept_ends_[name] = EndOf(name);
  bytes_ -= jobs_[name].bytes;
  jobs_.erase(name);
}

void LogSpool::Sweep(const std::set<std::string>& keep, absl::Time before) {
  const absl::MutexLock lock(&mutex_);
  std::vector<std::pair<absl::Time, std::string>> idle;
  for (const auto& [name, job] : jobs_) {
    if (keep.count(name) == 0) idle.emplace_back(job.touched, name);
  }
  std::sort(idle.begin(), idle.end());
  for (const auto& [touched, name] : idle) {
    if (touched < before || bytes_ > limits_.total_bytes) RemoveJob(name);
  }
}

void LogSpool::set_on_append(std::function<void(const std::string&)> callback) {
  const absl::MutexLock lock(&mutex_);
  on_append_ = std::move(callback);
}

}  // namespace weft::worker
