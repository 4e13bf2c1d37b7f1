#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/file/file_system.h"

namespace weft {
namespace {

absl::Status ErrnoError(absl::string_view verb, absl::string_view path, int error) {
  return absl::ErrnoToStatus(error, absl::StrCat("cannot ", verb, " ", path));
}

// Closes on every way out. Writers call Close, whose error may be the only sign of a lost write.
class Descriptor {
 public:
  Descriptor(const std::string& path, int flags)
      : fd_(open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
  ~Descriptor() { Close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int get() const { return fd_; }
  // True when there was nothing to say.
  bool Close() {
    const int fd = std::exchange(fd_, -1);
    return fd < 0 || close(fd) == 0 || errno == EINTR;
  }

 private:
  int fd_;
};

// False with errno set.
bool WriteAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

class PosixFileSystem : public FileSystem {
 public:
  absl::Status Write(absl::string_view path, absl::Span<const absl::string_view> pieces) override {
    Descriptor file(std::string(path), O_WRONLY | O_CREAT | O_TRUNC);
    if (file.get() < 0) return ErrnoError("create", path, errno);
    for (absl::string_view piece : pieces) {
      if (!WriteAll(file.get(), piece)) return ErrnoError("write", path, errno);
    }
    if (!file.Close()) return ErrnoError("write", path, errno);
    return absl::OkStatus();
  }

  absl::Status Sync(absl::string_view path) override {
    Descriptor file(std::string(path), O_RDONLY);
    if (file.get() < 0) return ErrnoError("open", path, errno);
    if (fsync(file.get()) != 0) return ErrnoError("sync", path, errno);
    return absl::OkStatus();
  }

  absl::Status Rename(absl::string_view from, absl::string_view to) override {
    if (rename(std::string(from).c_str(), std::string(to).c_str()) == 0) return absl::OkStatus();
    const int error = errno == ENOTEMPTY ? EEXIST : errno;
    return ErrnoError("rename", absl::StrCat(from, " to ", to), error);
  }

  absl::StatusOr<std::string> Read(absl::string_view path, int64_t offset,
                                   int64_t max_bytes) override {
    // Non-blocking: opening a pipe must not wait for a writer before we can refuse it.
    Descriptor file(std::string(path), O_RDONLY | O_NONBLOCK);
    if (file.get() < 0) return ErrnoError("open", path, errno);
    struct stat found = {};
    if (fstat(file.get(), &found) != 0) return ErrnoError("read", path, errno);
    if (S_ISDIR(found.st_mode)) return ErrnoError("read", path, EISDIR);
    if (S_ISFIFO(found.st_mode)) {  // its bytes have no size; /dev/null is an empty file
      return absl::InvalidArgumentError(absl::StrCat(path, " is a pipe, not a file"));
    }
    const int64_t wanted = std::clamp<int64_t>(found.st_size - offset, 0, max_bytes);
    std::string bytes(static_cast<size_t>(wanted), '\0');
    size_t filled = 0;
    while (filled < bytes.size()) {
      const ssize_t got = pread(file.get(), bytes.data() + filled, bytes.size() - filled,
                                offset + static_cast<int64_t>(filled));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoError("read", path, errno);
      if (got == 0) break;  // it shrank since fstat
      filled += static_cast<size_t>(got);
    }
    bytes.resize(filled);
    return bytes;
  }

  absl::StatusOr<std::vector<DirectoryEntry>> List(absl::string_view directory) override {
    std::error_code error;
    std::vector<DirectoryEntry> entries;
    std::filesystem::directory_iterator each(std::string(directory), error);
    for (; !error && each != std::filesystem::directory_iterator(); each.increment(error)) {
      DirectoryEntry entry{.name = each->path().filename().string()};
      std::error_code gone;  // another process may remove an entry while we look
      entry.is_directory = each->is_directory(gone);
      if (!entry.is_directory) {
        const std::uintmax_t bytes = each->file_size(gone);
        if (gone) continue;
        entry.bytes = static_cast<int64_t>(bytes);
      }
      entries.push_back(std::move(entry));
    }
    if (error) return ErrnoError("list", directory, error.value());
    std::sort(entries.begin(), entries.end(),
              [](const DirectoryEntry& a, const DirectoryEntry& b) { return a.name < b.name; });
    return entries;
  }

  absl::Status CreateDirectories(absl::string_view directory) override {
    std::error_code error;
    std::filesystem::create_directories(std::string(directory), error);
    if (error) return ErrnoError("create directory", directory, error.value());
    return absl::OkStatus();
  }

  absl::Status RemoveTree(absl::string_view path) override {
    std::error_code error;
    std::filesystem::remove_all(std::string(path), error);
    if (error) return ErrnoError("remove", path, error.value());
    return absl::OkStatus();
  }
};

}  // namespace

FileSystem& RealFileSystem() {
  static auto& files = *new PosixFileSystem;  // never destroyed: threads may outlive main
  return files;
}

}  // namespace weft
