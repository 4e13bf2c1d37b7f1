#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/sha256.h"
#include "worker/checkpoint/checkpoint_folder.h"
#include "worker/checkpoint/checkpoint_names.h"
#include "worker/checkpoint/checkpoint_store.h"
#include "worker/checkpoint/manifest.h"

namespace weft::worker {
namespace {

// A checkpoint may be pruned while we look at it, only ever because newer ones are there: then we
// look again. Training steps lie between two prunings, so a few turns suffice.
constexpr int kTurns = 5;

class DirectoryCheckpointWriter : public CheckpointWriter {
 public:
  DirectoryCheckpointWriter(CheckpointFolder folder, const CheckpointId& id,
                            absl::string_view writer, int keep)
      : folder_(std::move(folder)),
        id_(id),
        keep_(keep),
        partial_(JoinPath(folder_.path(), NameOfPartial(id, writer))) {}

  ~DirectoryCheckpointWriter() override {
    if (!settled_) RemoveOwnFiles();
  }

  absl::Status Create() { return folder_.files().CreateDirectories(partial_); }

  absl::StatusOr<CheckpointFile> Add(absl::string_view name,
                                     absl::Span<const absl::string_view> pieces) override {
    absl::StatusOr<CheckpointFile> added = TryAdd(name, pieces);
    if (!added.ok()) return Cause(added.status());
    return added;
  }

  absl::Status Publish(absl::Span<const CheckpointFile> others) override {
    return Cause(TryPublish(others));
  }

  void HandOver() override { settled_ = true; }

 private:
  // A newer generation removes our files under our hands; then that is the error to report.
  [[nodiscard]] absl::Status Cause(const absl::Status& status) const {
    if (status.ok()) return status;
    const absl::Status fenced = folder_.CheckGeneration(id_.generation);
    return absl::IsAborted(fenced) ? fenced : status;
  }

  absl::StatusOr<CheckpointFile> TryAdd(absl::string_view name,
                                        absl::Span<const absl::string_view> pieces) {
    if (!IsPlainName(name) || name == kManifestFile) {
      return absl::InvalidArgumentError(
          absl::StrCat("a checkpoint file cannot be called \"", name, "\""));
    }
    if (std::find(touched_.begin(), touched_.end(), name) != touched_.end()) {
      return absl::InvalidArgumentError(absl::StrCat(name, " was added to ", partial_, " before"));
    }
    touched_.emplace_back(name);
    CheckpointFile file;
    file.name = std::string(name);
    Sha256 hash;
    for (absl::string_view piece : pieces) {
      hash.Update(piece);
      file.bytes += static_cast<int64_t>(piece.size());
    }
    file.sha256 = hash.Finish();
    const std::string path = JoinPath(partial_, name);
    WEFT_RETURN_IF_ERROR(folder_.files().Write(path, pieces));
    WEFT_RETURN_IF_ERROR(folder_.files().Sync(path));
    added_.push_back(file);
    return file;
  }

  absl::Status TryPublish(absl::Span<const CheckpointFile> others) {
    if (settled_) {
      return absl::FailedPreconditionError(absl::StrCat(partial_, " was published before"));
    }
    Manifest manifest{.id = id_, .files = added_};
    manifest.files.insert(manifest.files.end(), others.begin(), others.end());
    std::sort(manifest.files.begin(), manifest.files.end(),
              [](const CheckpointFile& a, const CheckpointFile& b) { return a.name < b.name; });
    WEFT_RETURN_IF_ERROR(CheckFilesAreThere(manifest));
    FileSystem& files = folder_.files();
    touched_.emplace_back(kManifestFile);
    WEFT_RETURN_IF_ERROR(
        WriteFileDurably(files, JoinPath(partial_, kManifestFile), RenderManifest(manifest)));
    // As late as possible: a generation that begins after this line finds our checkpoint, under a
    // name that its own cannot meet.
    WEFT_RETURN_IF_ERROR(folder_.CheckGeneration(id_.generation));
    WEFT_RETURN_IF_ERROR(files.Rename(partial_, folder_.PathOf(id_)));
    settled_ = true;
    WEFT_RETURN_IF_ERROR(files.Sync(folder_.path()));
    folder_.Prune(keep_, id_.generation);
    return absl::OkStatus();
  }

  // A rank may have reported a file and then failed and removed it.
  absl::Status CheckFilesAreThere(const Manifest& manifest) const {
    WEFT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                          folder_.files().List(partial_));
    const CheckpointFile* previous = nullptr;
    for (const CheckpointFile& file : manifest.files) {
      if (previous != nullptr && previous->name == file.name) {
        return absl::InvalidArgumentError(
            absl::StrCat("two ranks wrote ", JoinPath(partial_, file.name)));
      }
      previous = &file;
      const bool there = std::any_of(entries.begin(), entries.end(), [&](const DirectoryEntry& e) {
        return e.name == file.name && e.bytes == file.bytes;
      });
      if (!there) {
        return absl::FailedPreconditionError(
            absl::StrCat("cannot publish: ", JoinPath(partial_, file.name),
                         " is not there with its ", file.bytes, " bytes"));
      }
    }
    return absl::OkStatus();
  }

  // Best effort: what stays is removed when the next generation begins.
  void RemoveOwnFiles() {
    FileSystem& files = folder_.files();
    for (const std::string& name : touched_) {
      files.RemoveTree(JoinPath(partial_, name)).IgnoreError();
    }
    const auto rest = files.List(partial_);
    if (rest.ok() && rest->empty()) files.RemoveTree(partial_).IgnoreError();
  }

  CheckpointFolder folder_;
  CheckpointId id_;
  int keep_;
  std::string partial_;
  std::vector<std::string> touched_;  // names that may exist in partial_ because of us
  std::vector<CheckpointFile> added_;
  bool settled_ = false;
};

class DirectoryCheckpointStore : public CheckpointStore {
 public:
  DirectoryCheckpointStore(FileSystem& files, const CheckpointStoreOptions& options)
      : folder_(files, options.root, options.job), keep_(options.keep) {}

  absl::Status Fence(int64_t generation) override {
    if (generation < 0) {
      return absl::InvalidArgumentError(absl::StrCat("generation ", generation, " is below 0"));
    }
    WEFT_RETURN_IF_ERROR(folder_.CheckGeneration(generation));
    WEFT_RETURN_IF_ERROR(folder_.Create());
    absl::Status recorded = folder_.RecordGeneration(generation);
    // A newer one may have begun since the check; then our record is void, and may have vanished.
    WEFT_RETURN_IF_ERROR(folder_.CheckGeneration(generation));
    if (!recorded.ok()) return recorded;
    folder_.RemovePartialBefore(generation);
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<CheckpointWriter>> Begin(const CheckpointId& id,
                                                          absl::string_view writer) override {
    if (id.step < 0 || id.generation < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("no checkpoint can have step ", id.step, " and generation ", id.generation));
    }
    if (!IsPlainName(writer) || writer.find('.') != absl::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("writer \"", writer, "\" must be letters, digits, - and _"));
    }
    WEFT_RETURN_IF_ERROR(folder_.CheckGeneration(id.generation));
    WEFT_RETURN_IF_ERROR(folder_.Create());
    auto begun = std::make_unique<DirectoryCheckpointWriter>(folder_, id, writer, keep_);
    WEFT_RETURN_IF_ERROR(begun->Create());
    return begun;
  }

  absl::StatusOr<LatestCheckpoint> Latest() override {
    for (int turn = 0; turn < kTurns; ++turn) {
      WEFT_ASSIGN_OR_RETURN(std::optional<LatestCheckpoint> found, LookForLatest());
      if (found.has_value()) return *std::move(found);
    }
    return absl::UnavailableError(
        absl::StrCat(folder_.path(), ": checkpoints are removed faster than they can be read"));
  }

  absl::StatusOr<std::vector<CheckpointSummary>> List() override {
    WEFT_ASSIGN_OR_RETURN(const std::vector<CheckpointId> ids, folder_.Complete());
    std::vector<CheckpointSummary> summaries;
    for (const CheckpointId& id : ids) {
      absl::StatusOr<Manifest> manifest = folder_.ReadManifest(id);
      if (manifest.ok()) summaries.push_back(Summarise(*std::move(manifest)));
    }
    return summaries;
  }

  absl::StatusOr<std::string> Read(const CheckpointId& id, absl::string_view file) override {
    const absl::StatusOr<Manifest> manifest = folder_.ReadManifest(id);
    if (!manifest.ok()) return Annotate(manifest.status(), folder_.PathOf(id, kManifestFile));
    const auto entry =
        std::find_if(manifest->files.begin(), manifest->files.end(),
                     [&](const CheckpointFile& candidate) { return candidate.name == file; });
    const std::string path = folder_.PathOf(id, file);
    if (entry == manifest->files.end()) {
      return absl::NotFoundError(absl::StrCat("the checkpoint has no file ", path));
    }
    WEFT_ASSIGN_OR_RETURN(std::string bytes, ReadFile(folder_.files(), path));
    if (static_cast<int64_t>(bytes.size()) != entry->bytes || Sha256Of(bytes) != entry->sha256) {
      return absl::DataLossError(absl::StrCat(path, " is damaged: it is not what was written"));
    }
    return bytes;
  }

 private:
  [[nodiscard]] CheckpointSummary Summarise(Manifest manifest) const {
    CheckpointSummary summary{
        .id = manifest.id, .path = folder_.PathOf(manifest.id), .files = std::move(manifest.files)};
    for (const CheckpointFile& file : summary.files) summary.bytes += file.bytes;
    return summary;
  }

  // nullopt: something vanished under our eyes, look again.
  absl::StatusOr<std::optional<LatestCheckpoint>> LookForLatest() {
    WEFT_ASSIGN_OR_RETURN(const std::vector<CheckpointId> ids, folder_.Complete());
    if (ids.empty()) {
      return absl::NotFoundError(absl::StrCat(folder_.path(), " holds no checkpoint"));
    }
    LatestCheckpoint latest;
    for (const CheckpointId& id : ids) {
      std::string wrong_file;
      const absl::Status sound = folder_.Verify(id, /*checksums=*/true, wrong_file);
      absl::StatusOr<Manifest> manifest = folder_.ReadManifest(id);
      if (sound.ok() && manifest.ok()) {
        latest.checkpoint = Summarise(*std::move(manifest));
        return latest;
      }
      if (absl::IsNotFound(folder_.files().List(folder_.PathOf(id)).status())) return std::nullopt;
      // Not the checkpoint's fault: an older one would fare no better, or silently cost progress.
      if (absl::IsPermissionDenied(sound) || absl::IsResourceExhausted(sound) ||
          absl::IsFailedPrecondition(sound)) {
        return Annotate(sound, wrong_file);
      }
      latest.damaged.push_back({id, wrong_file, std::string(sound.message())});
    }
    return absl::DataLossError(absl::StrCat(
        "no checkpoint in ", folder_.path(), " is sound: ",
        absl::StrJoin(latest.damaged, "; ", [](std::string* out, const DamagedCheckpoint& bad) {
          absl::StrAppend(out, bad.file, ": ", bad.reason);
        })));
  }

  CheckpointFolder folder_;
  int keep_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CheckpointStore>> NewDirectoryCheckpointStore(
    FileSystem& files, const CheckpointStoreOptions& options) {
  if (options.root.empty()) return absl::InvalidArgumentError("checkpoints need a root folder");
  if (!IsPlainName(options.job)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", options.job, "\" cannot name a folder of checkpoints: use letters, digits, . _ -"));
  }
  if (options.keep < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("checkpoints to keep: ", options.keep, "; it must be at least 1"));
  }
  return std::make_unique<DirectoryCheckpointStore>(files, options);
}

}  // namespace weft::worker
