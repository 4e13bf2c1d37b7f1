// A text file as numbered lines, mapped into memory: files of many gigabytes are fine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/file/mapped_file.h"

namespace weft::worker {

class LineFile {
 public:
  // Reads the file once to find its lines. kNotFound, kPermissionDenied; kInvalidArgument when it
  // has no line. Errors name the path.
  static absl::StatusOr<LineFile> Open(const std::string& path);

  [[nodiscard]] int64_t lines() const { return static_cast<int64_t>(starts_.size()) - 1; }
  // Line `index`, from 0, without its line end (LF or CR LF).
  [[nodiscard]] absl::string_view Line(int64_t index) const;
  [[nodiscard]] absl::string_view bytes() const { return file_.bytes(); }
  [[nodiscard]] const std::string& path() const { return path_; }
  // kInvalidArgument "path:line: message", with lines counted from 1 as editors do.
  [[nodiscard]] absl::Status Error(int64_t index, absl::string_view message) const;

 private:
  LineFile(std::string path, MappedFile file);

  std::string path_;
  MappedFile file_;
  std::vector<int64_t> starts_;  // of each line, and the end of the last one
};

}  // namespace weft::worker
