// A file system in memory that can lose power, fail an operation and fill up.
//
// It keeps two worlds: what readers see, and what a power cut leaves. Written bytes become durable
// by Sync of the file, names by Sync of their directory. After a power cut a file that was not
// synced holds its old bytes, the new ones, a torn prefix of them, or as many zeros; a directory
// shows any of the states it went through since its last Sync. That is what journaling file systems
// may do, and a little worse than most.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/file/file_system.h"

namespace weft::testing {

class FaultyFileSystem : public FileSystem {
 public:
  FaultyFileSystem();
  ~FaultyFileSystem() override;

  absl::Status Write(absl::string_view path, absl::Span<const absl::string_view> pieces) override;
  absl::Status Sync(absl::string_view path) override;
  absl::Status Rename(absl::string_view from, absl::string_view to) override;
  absl::StatusOr<std::string> Read(absl::string_view path, int64_t offset,
                                   int64_t max_bytes) override;
  absl::StatusOr<std::vector<DirectoryEntry>> List(absl::string_view directory) override;
  absl::Status CreateDirectories(absl::string_view directory) override;
  absl::Status RemoveTree(absl::string_view path) override;

  // Changing operations so far (all but Read and List).
  int64_t operations() const;
  // The power goes off in the middle of the changing operation with this number (counted from 0
  // like operations()); from then on everything fails with kUnavailable.
  void LosePowerAt(int64_t operation);
  // Power comes back; what was not synced has become what the seed decides.
  void RestorePower(uint64_t seed);
  // That one operation fails with this error; a failed Write leaves half of its bytes.
  void FailAt(int64_t operation, absl::Status error);
  // Every Sync fails with this error while it is set; nullopt: they work.
  void FailEverySync(std::optional<absl::Status> error);
  // Writes beyond this many bytes in all fail with kResourceExhausted and leave what fitted.
  void SetCapacity(int64_t bytes);
  // Turns one bit of a file over, as a failing disk would.
  void FlipBit(absl::string_view path, int64_t bit);

 private:
  struct Node;
  using Entries = std::map<std::string, std::shared_ptr<Node>>;

  // What became of a changing operation.
  absl::Status BeginOperation() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] std::shared_ptr<Node> Find(absl::string_view path) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] int64_t BytesUsed(const Node& node) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void SetEntry(Node& directory, const std::string& name, std::shared_ptr<Node> node);
  static void Survive(Node& node, std::mt19937_64& random);

  mutable absl::Mutex mutex_;
  std::shared_ptr<Node> root_ ABSL_GUARDED_BY(mutex_);
  int64_t operations_ ABSL_GUARDED_BY(mutex_) = 0;
  bool power_ ABSL_GUARDED_BY(mutex_) = true;
  std::optional<int64_t> power_cut_ ABSL_GUARDED_BY(mutex_);
  std::map<int64_t, absl::Status> failures_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> sync_failure_ ABSL_GUARDED_BY(mutex_);
  int64_t capacity_ ABSL_GUARDED_BY(mutex_) = INT64_MAX;
};

}  // namespace weft::testing
