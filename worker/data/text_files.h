// Which files a list of text paths stands for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace weft::worker {

struct TextFile {
  std::string path;
  int64_t bytes = 0;  // > 0
};

// The files in stream order. A path that is a folder is expanded as OpenByteText says. Errors as
// there.
absl::StatusOr<std::vector<TextFile>> FindTextFiles(const std::vector<std::string>& paths);

}  // namespace weft::worker
