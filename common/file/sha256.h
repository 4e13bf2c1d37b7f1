// SHA-256 of bytes and of files, as 64 lower-case hexadecimal digits.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/file/file_system.h"

namespace weft {

// Takes bytes in pieces. Not for use by two threads at once.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(absl::string_view bytes);
  // Eight bytes, lowest first: for sizes and counts between variable-length fields.
  void UpdateInteger(uint64_t value);
  // The digest of all bytes so far. Call once; nothing may follow.
  std::string Finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string Sha256Of(absl::string_view bytes);
// Reads the file in blocks: memory stays small for any size.
absl::StatusOr<std::string> Sha256OfFile(FileSystem& files, absl::string_view path);

}  // namespace weft
