#include "worker/agent/own_environment.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

extern char** environ;  // NOLINT(readability-identifier-naming): POSIX names it so

namespace weft::worker {

std::vector<std::string> OwnEnvironment() {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  return environment;
}

std::string ProgramDirectory() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment
  if (const char* folder = std::getenv("WEFT_LIBEXEC"); folder != nullptr && *folder != '\0') {
    return folder;
  }
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

}  // namespace weft::worker
