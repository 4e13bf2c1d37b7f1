// One job's folder of checkpoints: what is in it, whether it is sound, and removing what is old.
// Shared by the store and its writers. Threads and processes: as CheckpointStore.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/file/file_system.h"
#include "worker/checkpoint/checkpoint_store.h"
#include "worker/checkpoint/manifest.h"

namespace weft::worker {

class CheckpointFolder {
 public:
  CheckpointFolder(FileSystem& files, absl::string_view root, absl::string_view job);

  [[nodiscard]] FileSystem& files() const { return files_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string PathOf(const CheckpointId& id) const;
  [[nodiscard]] std::string PathOf(const CheckpointId& id, absl::string_view file) const;

  // Creates the folder, durably.
  absl::Status Create() const;

  // The highest generation that has begun; -1 when none has.
  [[nodiscard]] absl::StatusOr<int64_t> LivingGeneration() const;
  absl::Status RecordGeneration(int64_t generation) const;
  // kAborted when a newer generation has begun.
  [[nodiscard]] absl::Status CheckGeneration(int64_t generation) const;

  // Complete checkpoints, newest first; empty when there is no folder.
  [[nodiscard]] absl::StatusOr<std::vector<CheckpointId>> Complete() const;
  [[nodiscard]] absl::StatusOr<Manifest> ReadManifest(const CheckpointId& id) const;
  // OK when every file has the size (and, when asked, the checksum) of the manifest. Otherwise the
  // error, and in `wrong_file` the path it is about.
  absl::Status Verify(const CheckpointId& id, bool checksums, std::string& wrong_file) const;

  // Removes complete checkpoints older than the `keep` newest sound ones, partial ones of
  // generations before `generation`, and what an earlier removal left behind.
  void Prune(int keep, int64_t generation) const;
  void RemovePartialBefore(int64_t generation) const;

 private:
  absl::Status Remove(absl::string_view name) const;

  FileSystem& files_;
  std::string root_;
  std::string path_;
};

}  // namespace weft::worker
