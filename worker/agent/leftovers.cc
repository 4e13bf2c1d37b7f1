#include "worker/agent/leftovers.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace weft::worker {
namespace {

namespace fs = std::filesystem;

bool Carries(const fs::path& process, absl::string_view entry) {
  std::ifstream file(process / "environ", std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  const std::string environment = text.str();
  for (absl::string_view found : absl::StrSplit(environment, '\0')) {
    if (found == entry) return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> MarkedEnvironment(const std::vector<std::string>& environment,
                                           const std::string& state_directory) {
  const std::string mark = absl::StrCat(kOwnerVariable, "=");
  std::vector<std::string> marked;
  for (const std::string& entry : environment) {
    if (!absl::StartsWith(entry, mark)) marked.push_back(entry);
  }
  marked.push_back(absl::StrCat(mark, state_directory));
  return marked;
}

int KillLeftoverProcesses(const std::string& state_directory) {
  const std::string entry = absl::StrCat(kOwnerVariable, "=", state_directory);
  int killed = 0;
  std::error_code error;
  for (fs::directory_iterator process("/proc", error), end; !error && process != end;
       process.increment(error)) {
    int pid = 0;
    if (!absl::SimpleAtoi(process->path().filename().string(), &pid) || pid == getpid()) continue;
    if (Carries(process->path(), entry) && kill(pid, SIGKILL) == 0) ++killed;
  }
  return killed;
}

absl::StatusOr<FileDescriptor> LockStateDirectory(const std::string& state_directory) {
  std::error_code error;
  fs::create_directories(state_directory, error);
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot make ", state_directory));
  }
  const std::string path = absl::StrCat(state_directory, "/lock");
  FileDescriptor lock(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!lock.is_open()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "another worker runs with the state directory ", state_directory, ": give each its own"));
  }
  return lock;
}

}  // namespace weft::worker
