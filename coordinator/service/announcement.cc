#include "coordinator/service/announcement.h"

#include <unistd.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/file_system.h"

namespace weft::coordinator {

absl::StatusOr<Announcement> Announcement::Write(const std::string& state_directory,
                                                 const std::string& address,
                                                 const std::string& metrics_address,
                                                 const std::string& version) {
  const nlohmann::json content = {{"address", address},
                                  {"metrics_address", metrics_address},
                                  {"pid", getpid()},
                                  {"version", version}};
  const std::string path = JoinPath(state_directory, "coordinator.json");
  WEFT_RETURN_IF_ERROR(WriteFileDurably(RealFileSystem(), path, content.dump(2) + "\n"));
  return Announcement(path);
}

Announcement::Announcement(Announcement&& other) noexcept : path_(std::exchange(other.path_, "")) {}

Announcement::~Announcement() {
  if (!path_.empty()) RealFileSystem().RemoveTree(path_).IgnoreError();  // it names a dead process
}

}  // namespace weft::coordinator
