#include "worker/comm/process_identity.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace weft::worker {
namespace {

constexpr size_t kStartField = 19;  // field 22 of proc(5); the first one behind the name is 3

struct ProcessState {
  char state = '?';
  uint64_t start_ticks = 0;
};

// From /proc/PID/stat, "pid (name) state ppid ...": the name may hold spaces and parentheses, so
// fields are counted behind the last ')'. Nothing when the file is not there or not readable.
std::optional<ProcessState> ReadState(int32_t pid) {
  const int file = open(absl::StrCat("/proc/", pid, "/stat").c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  std::array<char, 1024> buffer{};
  const ssize_t got = read(file, buffer.data(), buffer.size());
  close(file);
  if (got <= 0) return std::nullopt;
  const absl::string_view text(buffer.data(), static_cast<size_t>(got));
  const size_t name_end = text.rfind(')');
  if (name_end == absl::string_view::npos) return std::nullopt;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(text.substr(name_end + 1), ' ', absl::SkipEmpty());
  ProcessState state;
  if (fields.size() <= kStartField || fields[0].empty() ||
      !absl::SimpleAtoi(fields[kStartField], &state.start_ticks)) {
    return std::nullopt;
  }
  state.state = fields[0][0];
  return state;
}

}  // namespace

ProcessIdentity ThisProcess() {
  ProcessIdentity self;
  self.pid = getpid();
  if (const auto state = ReadState(self.pid)) self.start_ticks = state->start_ticks;
  return self;
}

bool IsGone(const ProcessIdentity& process) {
  if (process.pid <= 0) return false;
  if (kill(process.pid, 0) != 0 && errno == ESRCH) return true;
  const auto state = ReadState(process.pid);
  if (!state.has_value()) return false;  // no /proc: the pid is all we know
  if (state->state == 'Z' || state->state == 'X') return true;
  return process.start_ticks != 0 && state->start_ticks != process.start_ticks;
}

}  // namespace weft::worker
