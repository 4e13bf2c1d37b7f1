// CheckpointStore: the checkpoints of one job in a directory. A checkpoint exists completely or not
// at all; one that is damaged later is noticed, and the one before it is used.
//
//   <root>/<job>/generation/0000000007             fences: the highest number is the living one
//   <root>/<job>/step_000000000100.g0000000007/    a complete checkpoint
//       weights.safetensors optimizer.safetensors state.json    or other files
//       MANIFEST.json                              names, sizes and SHA-256 of all of them
//   <root>/<job>/partial.step_….g….<writer>/       being written, or left by a crash
//   <root>/<job>/removed.step_….g…/                being deleted
//
// Files are synced, then the manifest, then the directory gets its final name. Names carry the
// generation, so a late writer of an older one can never replace what a newer one wrote.
// Threads and processes: any number may read, write and prune the same job at the same time.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/file/file_system.h"

namespace weft::worker {

// Ordered from older to newer: what a newer generation wrote is what the job became.
struct CheckpointId {
  int64_t generation = 0;
  int64_t step = 0;  // optimiser steps finished

  // clang-tidy 14 takes the 0 that the compiler compares with for a pointer.
  friend auto operator<=>(const CheckpointId&,
                          const CheckpointId&) = default;  // NOLINT(modernize-use-nullptr)
};

struct CheckpointFile {
  std::string name;
  int64_t bytes = 0;
  std::string sha256;

  friend bool operator==(const CheckpointFile&, const CheckpointFile&) = default;
};

struct CheckpointSummary {
  CheckpointId id;
  std::string path;
  int64_t bytes = 0;                  // of all files but the manifest
  std::vector<CheckpointFile> files;  // in order of name
};

struct DamagedCheckpoint {
  CheckpointId id;
  std::string file;  // path of the file that is wrong
  std::string reason;
};

struct LatestCheckpoint {
  CheckpointSummary checkpoint;
  std::vector<DamagedCheckpoint> damaged;  // newer ones that were passed over: warn about each
};

// Writes one checkpoint, or this rank's files of it. Destroyed before Publish succeeded, it removes
// what it wrote. For one thread.
class CheckpointWriter {
 public:
  virtual ~CheckpointWriter() = default;
  // Writes and syncs one file. The pieces are read during the call only. kResourceExhausted when
  // the disk is full; earlier checkpoints are untouched by any failure.
  virtual absl::StatusOr<CheckpointFile> Add(absl::string_view name,
                                             absl::Span<const absl::string_view> pieces) = 0;
  // Makes the checkpoint the latest one: all files added here and `others`, those that other ranks
  // added through writers of their own and the same writer name. By one rank, once.
  // kAborted when a newer generation has fenced this one off; kAlreadyExists when the step was
  // published before in this generation. Older checkpoints beyond the number to keep are removed
  // after that; a failure to remove is no failure.
  virtual absl::Status Publish(absl::Span<const CheckpointFile> others) = 0;
  // Gives the files up to another writer's Publish: destruction removes nothing any more. For the
  // ranks that do not publish, once their files are reported.
  virtual void HandOver() = 0;
};

class CheckpointStore {
 public:
  virtual ~CheckpointStore() = default;

  // Begins a generation: from now on older ones cannot publish, and their left-overs are removed.
  // Again for the same generation is OK; kAborted when a newer one has begun.
  virtual absl::Status Fence(int64_t generation) = 0;
  // `writer` is a short word ([A-Za-z0-9_-]) that all ranks writing this checkpoint share and no
  // other group of ranks uses. kAborted when a newer generation has begun.
  virtual absl::StatusOr<std::unique_ptr<CheckpointWriter>> Begin(const CheckpointId& id,
                                                                  absl::string_view writer) = 0;
  // The newest checkpoint whose every byte is as it was written. kNotFound when the job has none;
  // kDataLoss, naming all damage, when it has some and none is good.
  virtual absl::StatusOr<LatestCheckpoint> Latest() = 0;
  // All complete checkpoints, newest first, from their manifests; those without a readable
  // manifest are left out. Sizes and checksums are not verified: this is for showing.
  virtual absl::StatusOr<std::vector<CheckpointSummary>> List() = 0;
  // Reads one file of a checkpoint and verifies it: kDataLoss when it is not what was written,
  // kNotFound when the checkpoint has no such file or was pruned meanwhile.
  virtual absl::StatusOr<std::string> Read(const CheckpointId& id, absl::string_view file) = 0;
};

struct CheckpointStoreOptions {
  std::string root;  // created when missing
  std::string job;   // a directory name: [A-Za-z0-9._-], not "." or ".."
  int keep = 2;      // complete checkpoints kept, at least 1
};

// The file system must outlive the store. kInvalidArgument for options out of range.
absl::StatusOr<std::unique_ptr<CheckpointStore>> NewDirectoryCheckpointStore(
    FileSystem& files, const CheckpointStoreOptions& options);

}  // namespace weft::worker
