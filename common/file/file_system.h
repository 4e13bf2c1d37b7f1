// The little of a file system that durable state needs, as a seam: the real one, and in tests one
// that loses what was not synced, tears writes and runs out of space.
//
// Errors name the path and the cause; kNotFound, kPermissionDenied, kResourceExhausted (disk full,
// quota, too many open files) and kAlreadyExists mean what they say. A pipe is kInvalidArgument.
// Threads: every method may be called from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace weft {

struct DirectoryEntry {
  std::string name;  // without the directory
  bool is_directory = false;
  int64_t bytes = 0;  // of a file; 0 for a directory

  friend bool operator==(const DirectoryEntry&, const DirectoryEntry&) = default;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // Creates or truncates the file and writes the pieces one after the other. Readers see the bytes
  // at once; they survive a power cut only after Sync. On failure the file may hold a part of them.
  virtual absl::Status Write(absl::string_view path,
                             absl::Span<const absl::string_view> pieces) = 0;
  // Makes a file's bytes, or a directory's entries, survive a power cut.
  virtual absl::Status Sync(absl::string_view path) = 0;
  // Gives a file or directory another name, atomically. A file replaces a file; a directory that
  // would replace one that is not empty is refused with kAlreadyExists, so of two racing writers
  // one wins.
  virtual absl::Status Rename(absl::string_view from, absl::string_view to) = 0;
  // At most max_bytes bytes from offset on; shorter, or empty, at the end of the file.
  virtual absl::StatusOr<std::string> Read(absl::string_view path, int64_t offset,
                                           int64_t max_bytes) = 0;
  // The entries in ascending order of name, without "." and "..".
  virtual absl::StatusOr<std::vector<DirectoryEntry>> List(absl::string_view directory) = 0;
  // Also creates parents; OK when the directory is there already. The new entries are durable
  // after a Sync of the directories that hold them.
  virtual absl::Status CreateDirectories(absl::string_view directory) = 0;
  // Removes a file, or a directory with all it holds; OK when there is nothing.
  virtual absl::Status RemoveTree(absl::string_view path) = 0;
};

// The machine's own; lives as long as the program.
FileSystem& RealFileSystem();

}  // namespace weft
