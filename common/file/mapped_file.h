// A file mapped into memory for reading. The bytes stay valid as long as the object. The file must
// not shrink meanwhile: touching a page that is gone ends the process (SIGBUS).
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weft {

class MappedFile {
 public:
  // kInvalidArgument for anything but a regular file. An empty file maps to no bytes.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  [[nodiscard]] absl::string_view bytes() const { return {address_, size_}; }

 private:
  MappedFile(const char* address, size_t size) : address_(address), size_(size) {}

  const char* address_;
  size_t size_;
};

}  // namespace weft
