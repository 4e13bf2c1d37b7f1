#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "worker/relay/relay_launcher.h"

namespace weft::worker {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kVersionTimeout = absl::Seconds(10);
constexpr absl::string_view kMark = "(Open MPI) ";  // before the version
constexpr char kRemedy[] = "Debian: apt install openmpi-bin";

bool IsProgram(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored) && access(path.c_str(), X_OK) == 0;
}

absl::StatusOr<std::string> FindInPath(absl::string_view program, absl::string_view path) {
  for (const absl::string_view folder : absl::StrSplit(path, ':', absl::SkipEmpty())) {
    const fs::path candidate = fs::path(std::string(folder)) / std::string(program);
    if (IsProgram(candidate)) return candidate.string();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("jobs on more than one host need Open MPI 4, but there is no ", program,
                   " in PATH (", path, "). ", kRemedy));
}

absl::StatusOr<std::string> FindOwn(absl::string_view program, const fs::path& folder) {
  const fs::path path = folder / std::string(program);
  if (IsProgram(path)) return path.string();
  return absl::FailedPreconditionError(absl::StrCat(
      "jobs on more than one host need ", path.string(),
      ", which is missing: this Weft was built without MPI, or is not completely installed"));
}

// Reads until the end, an error or the deadline.
std::string ReadAll(int file, absl::Time deadline) {
  std::string text;
  std::array<char, 4096> buffer{};
  while (true) {
    const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
    pollfd ready = {file, POLLIN, 0};
    if (left <= 0 || poll(&ready, 1, static_cast<int>(left)) <= 0) return text;
    const ssize_t got = read(file, buffer.data(), buffer.size());
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<size_t>(got));
  }
}

// What `program --version` prints; empty when it fails.
std::string VersionText(const std::string& program, const std::string& path) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return "";
  const absl::Cleanup close_ends = [&ends] {
    for (const int end : ends) {
      if (end >= 0) close(end);
    }
  };
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
  std::vector<std::string> words = {program, "--version"};
  std::vector<std::string> variables = {absl::StrCat("PATH=", path), "HOME=/",
                                        "OMPI_ALLOW_RUN_AS_ROOT=1",
                                        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"};
  std::array<char*, 3> arguments = {words[0].data(), words[1].data(), nullptr};
  std::array<char*, 5> environment = {variables[0].data(), variables[1].data(), variables[2].data(),
                                      variables[3].data(), nullptr};
  pid_t child = 0;
  const int error =
      posix_spawn(&child, program.c_str(), &actions, nullptr, arguments.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return "";
  close(ends[1]);
  ends[1] = -1;
  std::string text = ReadAll(ends[0], absl::Now() + kVersionTimeout);
  kill(child, SIGKILL);  // it has closed its output, or hangs
  int ignored = 0;
  while (waitpid(child, &ignored, 0) < 0 && errno == EINTR) {
  }
  return text;
}

// "mpirun (Open MPI) 4.1.4" is what is wanted.
absl::Status CheckVersion(const std::string& mpirun, const std::string& path) {
  const std::string text = VersionText(mpirun, path);
  const absl::string_view first_line =
      absl::StripAsciiWhitespace(absl::string_view(text).substr(0, text.find('\n')));
  const size_t mark = first_line.find(kMark);
  if (mark == absl::string_view::npos) {
    return absl::FailedPreconditionError(
        absl::StrCat(mpirun, " is not that of Open MPI; it says \"", first_line, "\". ", kRemedy));
  }
  const absl::string_view version = first_line.substr(mark + kMark.size());
  int major = 0;
  if (!absl::SimpleAtoi(version.substr(0, version.find('.')), &major) || major != 4) {
    return absl::FailedPreconditionError(absl::StrCat(
        mpirun, " is of Open MPI ", version, "; the relays are started with version 4's options"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RelayPrograms> FindRelayPrograms(const fs::path& program_directory,
                                                const std::string& path) {
  RelayPrograms programs;
  WEFT_ASSIGN_OR_RETURN(programs.mpirun, FindInPath("mpirun", path));
  WEFT_RETURN_IF_ERROR(FindInPath("orted", path).status());
  WEFT_ASSIGN_OR_RETURN(programs.relay, FindOwn("weft-relay", program_directory));
  WEFT_ASSIGN_OR_RETURN(programs.rsh, FindOwn("weft-rsh", program_directory));
  WEFT_RETURN_IF_ERROR(CheckVersion(programs.mpirun, path));
  return programs;
}

}  // namespace weft::worker
