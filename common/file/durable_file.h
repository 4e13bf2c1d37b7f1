// Whole files: written so that a crash leaves the old contents or the new ones, never a mixture.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/file/file_system.h"

namespace weft {

// "directory/name"; the directory may end in a slash.
std::string JoinPath(absl::string_view directory, absl::string_view name);
// The directory part of a path: "." when it has none, "/" for entries of the root.
absl::string_view DirectoryOf(absl::string_view path);

// Writes to a temporary name beside `path`, syncs, renames, syncs the directory. When this returns
// OK the file survives a power cut. On failure the file that was there before is untouched and the
// temporary one is removed. Temporary names end in ".tmp-<process>-<count>": IsTemporaryName.
absl::Status WriteFileDurably(FileSystem& files, absl::string_view path,
                              absl::Span<const absl::string_view> pieces);
absl::Status WriteFileDurably(FileSystem& files, absl::string_view path, absl::string_view bytes);
// True of what an interrupted WriteFileDurably may leave behind.
bool IsTemporaryName(absl::string_view name);

// The whole file. kResourceExhausted when it is larger than max_bytes: a file that should be small
// cannot exhaust memory.
absl::StatusOr<std::string> ReadFile(FileSystem& files, absl::string_view path,
                                     int64_t max_bytes = INT64_MAX);

}  // namespace weft
