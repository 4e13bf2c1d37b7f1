#include "worker/data/readers/line_file.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace weft::worker {

absl::StatusOr<LineFile> LineFile::Open(const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  if (file.bytes().empty()) return absl::InvalidArgumentError(absl::StrCat(path, " is empty"));
  return LineFile(path, std::move(file));
}

LineFile::LineFile(std::string path, MappedFile file)
    : path_(std::move(path)), file_(std::move(file)) {
  const absl::string_view bytes = file_.bytes();
  for (size_t start = 0; start < bytes.size();) {
    starts_.push_back(static_cast<int64_t>(start));
    const size_t end = bytes.find('\n', start);
    start = end == absl::string_view::npos ? bytes.size() : end + 1;
  }
  starts_.push_back(static_cast<int64_t>(bytes.size()));
}

absl::string_view LineFile::Line(int64_t index) const {
  WEFT_CHECK(index >= 0 && index < lines());
  const auto start = static_cast<size_t>(starts_[static_cast<size_t>(index)]);
  const auto end = static_cast<size_t>(starts_[static_cast<size_t>(index) + 1]);
  absl::string_view line = file_.bytes().substr(start, end - start);
  if (absl::ConsumeSuffix(&line, "\n")) absl::ConsumeSuffix(&line, "\r");
  return line;
}

absl::Status LineFile::Error(int64_t index, absl::string_view message) const {
  return absl::InvalidArgumentError(absl::StrCat(path_, ":", index + 1, ": ", message));
}

}  // namespace weft::worker
