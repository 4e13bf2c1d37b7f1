// Small checkpoints for tests: what is in one follows from its step, so a reader can tell a whole
// one from a mixture.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/file/file_system.h"
#include "worker/checkpoint/checkpoint_store.h"

namespace weft::worker {

inline std::string ContentOf(int64_t step, absl::string_view file) {
  return absl::StrCat(file, " of step ", step, ": ",
                      std::string(50, static_cast<char>('a' + step % 26)));
}

inline absl::StatusOr<CheckpointFile> AddContent(CheckpointWriter& writer, int64_t step,
                                                 absl::string_view file) {
  const std::string content = ContentOf(step, file);
  const absl::string_view pieces[] = {absl::string_view(content).substr(0, 7),
                                      absl::string_view(content).substr(7)};
  return writer.Add(file, pieces);
}

// Writes and publishes a checkpoint of two files, "model" and "state".
inline absl::Status SaveStep(CheckpointStore& store, int64_t generation, int64_t step,
                             absl::string_view word = "w") {
  WEFT_ASSIGN_OR_RETURN(const auto writer,
                        store.Begin({.generation = generation, .step = step}, word));
  WEFT_RETURN_IF_ERROR(AddContent(*writer, step, "model"));
  WEFT_RETURN_IF_ERROR(AddContent(*writer, step, "state"));
  return writer->Publish({});
}

inline std::unique_ptr<CheckpointStore> OpenStore(FileSystem& files, const std::string& root,
                                                  int keep = 2) {
  auto store = NewDirectoryCheckpointStore(files, {.root = root, .job = "job", .keep = keep});
  WEFT_CHECK_MSG(store.ok(), store.status().ToString());
  return *std::move(store);
}

}  // namespace weft::worker
