// Turns what a process writes into lines that are fit for the log: whole, valid UTF-8, of bounded
// length.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace weft::worker {

// Longer lines are cut into several.
inline constexpr size_t kMaxLineBytes = size_t{8} << 10;

// For one output stream of one process. Not thread-safe.
class LineSplitter {
 public:
  // The lines that end within `bytes`, without their ends (\n or \r\n).
  std::vector<std::string> Append(absl::string_view bytes);
  // What came after the last line's end; nothing more will come.
  std::vector<std::string> Finish();

 private:
  std::string partial_;
};

}  // namespace weft::worker
