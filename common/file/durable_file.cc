#include "common/file/durable_file.h"

#include <unistd.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft {
namespace {

constexpr absl::string_view kTemporaryMark = ".tmp-";

std::string TemporaryNameFor(absl::string_view path) {
  static std::atomic<int64_t> count{0};
  return absl::StrCat(path, kTemporaryMark, getpid(), "-", count.fetch_add(1));
}

}  // namespace

std::string JoinPath(absl::string_view directory, absl::string_view name) {
  if (directory.empty() || directory.back() == '/') return absl::StrCat(directory, name);
  return absl::StrCat(directory, "/", name);
}

absl::string_view DirectoryOf(absl::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == absl::string_view::npos) return ".";
  return slash == 0 ? path.substr(0, 1) : path.substr(0, slash);
}

absl::Status WriteFileDurably(FileSystem& files, absl::string_view path,
                              absl::Span<const absl::string_view> pieces) {
  const std::string temporary = TemporaryNameFor(path);
  absl::Status status = files.Write(temporary, pieces);
  if (status.ok()) status = files.Sync(temporary);
  if (status.ok()) status = files.Rename(temporary, path);
  if (!status.ok()) {
    files.RemoveTree(temporary).IgnoreError();  // the first error is the one to report
    return status;
  }
  return files.Sync(DirectoryOf(path));
}

absl::Status WriteFileDurably(FileSystem& files, absl::string_view path, absl::string_view bytes) {
  return WriteFileDurably(files, path, absl::MakeConstSpan(&bytes, 1));
}

bool IsTemporaryName(absl::string_view name) {
  return name.find(kTemporaryMark) != absl::string_view::npos;
}

absl::StatusOr<std::string> ReadFile(FileSystem& files, absl::string_view path, int64_t max_bytes) {
  const int64_t limit = max_bytes == INT64_MAX ? max_bytes : max_bytes + 1;
  WEFT_ASSIGN_OR_RETURN(std::string bytes, files.Read(path, 0, limit));
  if (static_cast<int64_t>(bytes.size()) > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, " is larger than the ", max_bytes, " bytes allowed here"));
  }
  return bytes;
}

}  // namespace weft
