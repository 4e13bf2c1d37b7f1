#include "common/metrics/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "common/metrics/process_usage.h"

namespace weft {
namespace {

constexpr Metric kProcessorSeconds = {.name = "process_cpu_seconds_total",
                                      .help = "Processor time, user and system.",
                                      .kind = MetricKind::kCounter};
constexpr Metric kResidentBytes = {.name = "process_resident_memory_bytes",
                                   .help = "Memory that is in use and not swapped out."};
constexpr Metric kVirtualBytes = {.name = "process_virtual_memory_bytes",
                                  .help = "Address space that is in use."};
constexpr Metric kOpenFiles = {.name = "process_open_fds", .help = "Open file descriptors."};
constexpr Metric kMaxFiles = {.name = "process_max_fds",
                              .help = "How many file descriptors may be open."};

constexpr Metric kStartTime = {.name = "process_start_time_seconds",
                               .help = "When the process began, since the Unix epoch."};

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace

void ProcessMetrics::Measure() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    const double seconds = Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
    if (seconds >= counted_seconds_) sink_.Add(kProcessorSeconds, {}, seconds - counted_seconds_);
    counted_seconds_ = seconds;
  }
  if (const auto own = ReadProcessUsage(getpid()); own.has_value()) {
    sink_.Set(kStartTime, {}, own->start_seconds);
  }
  double virtual_pages = 0;
  double resident_pages = 0;
  if (std::ifstream("/proc/self/statm") >> virtual_pages >> resident_pages) {
    const auto page_bytes = static_cast<double>(sysconf(_SC_PAGESIZE));
    sink_.Set(kVirtualBytes, {}, virtual_pages * page_bytes);
    sink_.Set(kResidentBytes, {}, resident_pages * page_bytes);
  }
  std::error_code error;
  const auto files = std::filesystem::directory_iterator("/proc/self/fd", error);
  if (!error) {
    // One of them is the directory itself.
    const auto count = std::distance(begin(files), end(files)) - 1;
    sink_.Set(kOpenFiles, {}, static_cast<double>(count));
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    sink_.Set(kMaxFiles, {}, static_cast<double>(limit.rlim_cur));
  }
}

}  // namespace weft
