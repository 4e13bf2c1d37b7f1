// SharedMemory: a named POSIX segment, mapped. The object that created it also removes the name.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace weft::worker {

class SharedMemory {
 public:
  // Zeroed, this user's alone, with its pages already reserved: a full /dev/shm is an error here
  // (kResourceExhausted) and not a SIGBUS later. kAlreadyExists when the name is taken.
  static absl::StatusOr<SharedMemory> Create(const std::string& name, int64_t bytes);
  // kUnavailable when there is no such segment.
  static absl::StatusOr<SharedMemory> Open(const std::string& name);
  // Removes the name; mappings stay. OK when there is none.
  static absl::Status Remove(const std::string& name);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) = delete;
  ~SharedMemory();

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] absl::Span<char> bytes() const { return bytes_; }

 private:
  SharedMemory(std::string name, absl::Span<char> bytes, bool owner)
      : name_(std::move(name)), bytes_(bytes), owner_(owner) {}

  std::string name_;  // with its leading '/'
  absl::Span<char> bytes_;
  bool owner_;
};

}  // namespace weft::worker
