#include "worker/checkpoint/checkpoint_folder.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/sha256.h"
#include "worker/checkpoint/checkpoint_names.h"

namespace weft::worker {
namespace {

// A manifest has about 150 bytes for a file.
constexpr int64_t kLongestManifest = int64_t{64} << 20;

}  // namespace

CheckpointFolder::CheckpointFolder(FileSystem& files, absl::string_view root, absl::string_view job)
    : files_(files), root_(root), path_(JoinPath(root, job)) {}

std::string CheckpointFolder::PathOf(const CheckpointId& id) const {
  return JoinPath(path_, NameOfCheckpoint(id));
}

std::string CheckpointFolder::PathOf(const CheckpointId& id, absl::string_view file) const {
  return JoinPath(PathOf(id), file);
}

absl::Status CheckpointFolder::Create() const {
  const std::string generations = JoinPath(path_, kGenerationFolder);
  if (files_.List(generations).ok()) return absl::OkStatus();
  WEFT_RETURN_IF_ERROR(files_.CreateDirectories(generations));
  WEFT_RETURN_IF_ERROR(files_.Sync(DirectoryOf(root_)));
  WEFT_RETURN_IF_ERROR(files_.Sync(root_));
  return files_.Sync(path_);
}

absl::StatusOr<int64_t> CheckpointFolder::LivingGeneration() const {
  const auto entries = files_.List(JoinPath(path_, kGenerationFolder));
  if (absl::IsNotFound(entries.status())) return -1;
  if (!entries.ok()) return entries.status();
  int64_t newest = -1;
  for (const DirectoryEntry& entry : *entries) {
    newest = std::max(newest, GenerationOfName(entry.name).value_or(-1));
  }
  return newest;
}

absl::Status CheckpointFolder::RecordGeneration(int64_t generation) const {
  const std::string folder = JoinPath(path_, kGenerationFolder);
  const std::string fence = JoinPath(folder, NameOfGeneration(generation));
  WEFT_RETURN_IF_ERROR(files_.Write(fence, {}));
  WEFT_RETURN_IF_ERROR(files_.Sync(fence));
  WEFT_RETURN_IF_ERROR(files_.Sync(folder));
  // Older fences say nothing any more. The one before ours stays: a listing that began before ours
  // was there must not miss both.
  const auto entries = files_.List(folder);
  if (!entries.ok()) return absl::OkStatus();
  std::vector<int64_t> older;
  for (const DirectoryEntry& entry : *entries) {
    const std::optional<int64_t> other = GenerationOfName(entry.name);
    if (other.has_value() && *other < generation) older.push_back(*other);
  }
  std::sort(older.begin(), older.end());
  for (size_t i = 0; i + 1 < older.size(); ++i) {
    files_.RemoveTree(JoinPath(folder, NameOfGeneration(older[i]))).IgnoreError();  // only tidiness
  }
  return absl::OkStatus();
}

absl::Status CheckpointFolder::CheckGeneration(int64_t generation) const {
  WEFT_ASSIGN_OR_RETURN(const int64_t living, LivingGeneration());
  if (living <= generation) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat(path_, ": generation ", generation,
                                         " may not write checkpoints any more: generation ", living,
                                         " has begun"));
}

absl::StatusOr<std::vector<CheckpointId>> CheckpointFolder::Complete() const {
  const auto entries = files_.List(path_);
  std::vector<CheckpointId> found;
  if (absl::IsNotFound(entries.status())) return found;
  if (!entries.ok()) return entries.status();
  for (const DirectoryEntry& entry : *entries) {
    const std::optional<CheckpointId> id = CheckpointOfName(entry.name);
    if (id.has_value() && entry.is_directory) found.push_back(*id);
  }
  std::sort(found.begin(), found.end(), std::greater<>());
  return found;
}

absl::StatusOr<Manifest> CheckpointFolder::ReadManifest(const CheckpointId& id) const {
  WEFT_ASSIGN_OR_RETURN(const std::string text,
                        ReadFile(files_, PathOf(id, kManifestFile), kLongestManifest));
  WEFT_ASSIGN_OR_RETURN(Manifest manifest, ParseManifest(text));
  if (manifest.id != id) {
    return absl::DataLossError(
        absl::StrCat("it is the manifest of ", NameOfCheckpoint(manifest.id)));
  }
  return manifest;
}

absl::Status CheckpointFolder::Verify(const CheckpointId& id, bool checksums,
                                      std::string& wrong_file) const {
  wrong_file = PathOf(id, kManifestFile);
  WEFT_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(id));
  WEFT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, files_.List(PathOf(id)));
  std::map<std::string, int64_t> sizes;
  for (const DirectoryEntry& entry : entries) {
    if (!entry.is_directory) sizes[entry.name] = entry.bytes;
  }
  for (const CheckpointFile& file : manifest.files) {
    wrong_file = PathOf(id, file.name);
    const auto size = sizes.find(file.name);
    if (size == sizes.end()) return absl::DataLossError("the file is missing");
    if (size->second != file.bytes) {
      return absl::DataLossError(
          absl::StrCat("it has ", size->second, " bytes instead of ", file.bytes));
    }
    if (!checksums) continue;
    WEFT_ASSIGN_OR_RETURN(const std::string sha256, Sha256OfFile(files_, wrong_file));
    if (sha256 != file.sha256) return absl::DataLossError("its SHA-256 is not the one written");
  }
  return absl::OkStatus();
}

void CheckpointFolder::Prune(int keep, int64_t generation) const {
  const absl::StatusOr<std::vector<CheckpointId>> complete = Complete();
  if (!complete.ok()) return;
  int sound = 0;
  for (const CheckpointId& id : *complete) {
    std::string wrong_file;
    if (sound >= keep) {
      Remove(NameOfCheckpoint(id)).IgnoreError();  // the next Prune tries again
    } else if (Verify(id, /*checksums=*/false, wrong_file).ok()) {
      ++sound;
    }
  }
  RemovePartialBefore(generation);
}

void CheckpointFolder::RemovePartialBefore(int64_t generation) const {
  const absl::StatusOr<std::vector<DirectoryEntry>> entries = files_.List(path_);
  if (!entries.ok()) return;
  for (const DirectoryEntry& entry : *entries) {
    const std::optional<CheckpointId> partial = CheckpointOfPartialName(entry.name);
    const bool fenced_off = partial.has_value() && partial->generation < generation;
    if (fenced_off || absl::StartsWith(entry.name, kRemovedPrefix)) {
      files_.RemoveTree(JoinPath(path_, entry.name)).IgnoreError();  // the next Prune tries again
    }
  }
}

absl::Status CheckpointFolder::Remove(absl::string_view name) const {
  // The name goes first, for good: nobody, also after a power cut, finds half a checkpoint under a
  // name that promises a whole one.
  const std::string doomed = JoinPath(path_, absl::StrCat(kRemovedPrefix, name));
  WEFT_RETURN_IF_ERROR(files_.RemoveTree(doomed));
  WEFT_RETURN_IF_ERROR(files_.Rename(JoinPath(path_, name), doomed));
  WEFT_RETURN_IF_ERROR(files_.Sync(path_));
  return files_.RemoveTree(doomed);
}

}  // namespace weft::worker
