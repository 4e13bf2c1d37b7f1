// The file by which others find a running coordinator: <state>/coordinator.json, with its address,
// the address of its metrics and its process id.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace weft::coordinator {

// The file exists as long as the object.
class Announcement {
 public:
  static absl::StatusOr<Announcement> Write(const std::string& state_directory,
                                            const std::string& address,
                                            const std::string& metrics_address,
                                            const std::string& version);
  ~Announcement();
  Announcement(Announcement&& other) noexcept;
  Announcement& operator=(Announcement&&) = delete;

 private:
  explicit Announcement(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

}  // namespace weft::coordinator
