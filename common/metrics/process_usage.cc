#include "common/metrics/process_usage.h"

#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace weft {
namespace {

// Fields of /proc/PID/stat behind the name, which may hold anything (proc(5) counts them from 3).
constexpr size_t kUserTicks = 14 - 3;
constexpr size_t kSystemTicks = 15 - 3;
constexpr size_t kStartTicks = 22 - 3;
constexpr size_t kResidentPages = 24 - 3;

// When the host was started, in seconds since the Unix epoch; 0 when unknown.
double BootSeconds() {
  std::ifstream file("/proc/stat");
  std::string word;
  double seconds = 0;
  while (file >> word) {
    if (word == "btime" && file >> seconds) return seconds;
  }
  return 0;
}

}  // namespace

std::optional<ProcessUsage> ReadProcessUsage(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t name_end = text.rfind(") ");
  if (name_end == std::string::npos) return std::nullopt;
  const std::vector<std::string> fields = absl::StrSplit(text.substr(name_end + 2), ' ');
  const auto number = [&fields](size_t index) {
    double value = 0;
    return index < fields.size() && absl::SimpleAtod(fields[index], &value) ? value : 0;
  };
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  ProcessUsage usage;
  usage.processor_seconds = (number(kUserTicks) + number(kSystemTicks)) / ticks;
  usage.resident_bytes = number(kResidentPages) * static_cast<double>(sysconf(_SC_PAGESIZE));
  usage.start_seconds = BootSeconds() + number(kStartTicks) / ticks;
  return usage;
}

}  // namespace weft
