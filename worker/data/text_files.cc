#include "worker/data/text_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::worker {
namespace {

struct Candidate {
  TextFile file;
  std::pair<dev_t, ino_t> identity;  // equal for two names of one file
};

bool IsHidden(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  return !name.empty() && name[0] == '.';
}

// Adds the regular files with bytes under `folder`, in no order.
absl::Status Collect(const std::filesystem::path& folder, std::vector<Candidate>& found) {
  std::error_code error;
  std::filesystem::directory_iterator each(folder, error);
  for (; !error && each != std::filesystem::directory_iterator(); each.increment(error)) {
    const std::filesystem::path& path = each->path();
    if (IsHidden(path)) continue;
    struct stat entry = {};
    struct stat status = {};  // of what the entry is or, as a link, leads to
    if (lstat(path.c_str(), &entry) != 0 || stat(path.c_str(), &status) != 0) {
      // What has gone is no data, nor is a link to nothing or to itself. Of others we cannot tell.
      if (errno == ENOENT || errno == ELOOP) continue;
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot read text from ", path.string()));
    }
    if (S_ISDIR(entry.st_mode)) WEFT_RETURN_IF_ERROR(Collect(path, found));
    // Folders behind links, pipes, sockets and devices are no data either.
    if (!S_ISREG(status.st_mode) || status.st_size == 0) continue;
    found.push_back({{path.string(), status.st_size}, {status.st_dev, status.st_ino}});
  }
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list ", folder.string()));
  }
  return absl::OkStatus();
}

absl::Status AddFolder(const std::string& folder, std::vector<TextFile>& files) {
  std::vector<Candidate> found;
  WEFT_RETURN_IF_ERROR(Collect(folder, found));
  if (found.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        folder, " holds no text: no file with bytes (names that begin with a dot do not count)"));
  }
  // All begin with the folder, so this is the order of the paths relative to it.
  std::sort(found.begin(), found.end(),
            [](const Candidate& a, const Candidate& b) { return a.file.path < b.file.path; });
  std::set<std::pair<dev_t, ino_t>> seen;
  for (Candidate& candidate : found) {
    if (seen.insert(candidate.identity).second) files.push_back(std::move(candidate.file));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<TextFile>> FindTextFiles(const std::vector<std::string>& paths) {
  if (paths.empty()) {
    return absl::InvalidArgumentError("no text: name at least one file or folder");
  }
  std::vector<TextFile> files;
  for (const std::string& path : paths) {
    struct stat status = {};
    if (stat(path.c_str(), &status) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot read text from ", path));
    }
    if (S_ISDIR(status.st_mode)) {
      WEFT_RETURN_IF_ERROR(AddFolder(path, files));
    } else if (!S_ISREG(status.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat(path, " is neither a file nor a folder"));
    } else if (status.st_size == 0) {
      return absl::InvalidArgumentError(absl::StrCat(path, " is empty: a text has bytes"));
    } else {
      files.push_back({path, status.st_size});
    }
  }
  return files;
}

}  // namespace weft::worker
