#include "client/programs.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/process/file_descriptor.h"

namespace weft::client {

std::string ProgramPath(absl::string_view name) {
  const char* folder =
      std::getenv("WEFT_LIBEXEC");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  if (folder != nullptr) return absl::StrCat(folder, "/", name);
  std::error_code error;
  const auto own = std::filesystem::read_symlink("/proc/self/exe", error);
  return (own.parent_path() / std::string(name)).string();
}

absl::Status BecomeProgram(absl::string_view name, const std::vector<std::string>& arguments) {
  const std::string path = ProgramPath(name);
  std::vector<char*> argv = {const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  execv(path.c_str(), argv.data());
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot start ", path));
}

absl::Status GiveAsInput(absl::string_view text) {
  const FileDescriptor file(memfd_create("weft-input", MFD_CLOEXEC));
  while (file.is_open() && !text.empty()) {
    const ssize_t written = write(file.get(), text.data(), text.size());
    if (written < 0) break;
    text.remove_prefix(static_cast<size_t>(written));
  }
  if (!file.is_open() || !text.empty() || lseek(file.get(), 0, SEEK_SET) != 0 ||
      dup2(file.get(), STDIN_FILENO) != STDIN_FILENO) {
    return absl::ErrnoToStatus(errno, "cannot hand over the input");
  }
  return absl::OkStatus();
}

}  // namespace weft::client
