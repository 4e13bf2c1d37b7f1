#include "client/settings.h"

#include <yaml-cpp/yaml.h>

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"

namespace weft::client {
namespace {

// A field, or (index >= 0) the element of a list.
struct Part {
  std::string field;
  int index = -1;
};

absl::StatusOr<std::vector<Part>> ParsePath(absl::string_view path) {
  std::vector<Part> parts;
  for (absl::string_view piece : absl::StrSplit(path, '.')) {
    const size_t bracket = piece.find('[');
    parts.push_back({std::string(piece.substr(0, bracket))});
    bool good = !parts.back().field.empty();
    if (bracket != absl::string_view::npos) {
      absl::string_view number = piece.substr(bracket + 1);
      good = good && absl::ConsumeSuffix(&number, "]");
      Part element;
      good = good && absl::SimpleAtoi(number, &element.index) && element.index >= 0;
      parts.push_back(element);
    }
    if (!good) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", path, "' is no path of fields such as model.mixers[0].delta.heads"));
    }
  }
  return parts;
}

absl::Status Apply(const std::string& setting, YAML::Node& root) {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("--set ", setting, ": must be PATH=VALUE"));
  }
  auto parts = ParsePath(absl::string_view(setting).substr(0, equals));
  if (!parts.ok()) return Annotate(parts.status(), absl::StrCat("--set ", setting));
  YAML::Node node = root;
  for (const Part& part : *parts) {
    // Nodes are references: assigning to one would change what it stands for.
    if (part.index < 0) {
      if (node.IsDefined() && !node.IsNull() && !node.IsMap()) {
        return absl::InvalidArgumentError(
            absl::StrCat("--set ", setting, ": there is no field ", part.field, " in a value"));
      }
      node.reset(node[part.field]);
    } else {
      if (!node.IsSequence() || static_cast<size_t>(part.index) >= node.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat("--set ", setting, ": the list has no element ", part.index));
      }
      node.reset(node[part.index]);
    }
  }
  node = YAML::Load(setting.substr(equals + 1));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> WithSettings(absl::string_view yaml,
                                         absl::Span<const std::string> settings) {
  std::string at = "the job file";
  try {  // yaml-cpp throws
    YAML::Node root = YAML::Load(std::string(yaml));
    for (const std::string& setting : settings) {
      at = absl::StrCat("--set ", setting);
      WEFT_RETURN_IF_ERROR(Apply(setting, root));
    }
    return YAML::Dump(root) + "\n";
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(at, ": is no YAML: ", error.what()));
  }
}

}  // namespace weft::client
