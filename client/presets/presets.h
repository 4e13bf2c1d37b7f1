// Job specs that come with the program: the set-ups of the papers. Each is a file of this folder,
// built into the program, so that they are there wherever it runs.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace weft::client {

struct Preset {
  absl::string_view name;  // that of the file; the spec's has '-' where this has '.'
  absl::string_view text;  // YAML; its first line is a comment that says what it is
};

// By name.
absl::Span<const Preset> Presets();

// kNotFound names those that look like it.
absl::StatusOr<Preset> FindPreset(absl::string_view name);

// The first line, without its mark.
absl::string_view TitleOf(const Preset& preset);

}  // namespace weft::client
