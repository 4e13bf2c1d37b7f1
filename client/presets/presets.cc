#include "client/presets/presets.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

namespace weft::client {

absl::StatusOr<Preset> FindPreset(absl::string_view name) {
  // Of the same family: what stands before the first '-'.
  const absl::string_view family = name.substr(0, name.find('-'));
  std::vector<absl::string_view> similar;
  for (const Preset& preset : Presets()) {
    if (preset.name == name) return preset;
    if (absl::StartsWith(preset.name, family)) similar.push_back(preset.name);
  }
  return absl::NotFoundError(
      absl::StrCat("there is no preset ", name, "; ",
                   similar.empty() ? "`weft presets` lists them" : absl::StrJoin(similar, ", ")));
}

absl::string_view TitleOf(const Preset& preset) {
  return absl::StripPrefix(preset.text.substr(0, preset.text.find('\n')), "# ");
}

}  // namespace weft::client
