// The manifest of a checkpoint as text: JSON in one exact form, with a checksum of itself, so that
// no changed byte goes unnoticed.
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
// kDataLoss, with the reason, for any text that RenderManifest does not give.
absl::StatusOr<Manifest> ParseManifest(absl::string_view text);

}  // namespace weft::worker
