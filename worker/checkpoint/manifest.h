// The manifest of a checkpoint as text: JSON whose last field is the checksum of all text before
// it, so that no changed byte goes unnoticed.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/checkpoint/checkpoint_store.h"

namespace weft::worker {

inline constexpr absl::string_view kManifestFile = "MANIFEST.json";

struct Manifest {
  CheckpointId id;
  std::vector<CheckpointFile> files;  // in order of name
};

std::string RenderManifest(const Manifest& manifest);
// kDataLoss, with the reason, for text that RenderManifest did not give; kFailedPrecondition for a
// sound manifest of another version.
absl::StatusOr<Manifest> ParseManifest(absl::string_view text);

}  // namespace weft::worker
