#include "client/job_file.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "client/presets/presets.h"
#include "client/settings.h"
#include "common/base/status_macros.h"
#include "common/base/utf8.h"
#include "proto/spec/data_paths.h"
#include "proto/spec/parse.h"
#include "proto/spec/resolve.h"

namespace weft::client {
namespace {

constexpr std::streamsize kMaxBytes = 1 << 20;

absl::StatusOr<std::string> ReadAll(const std::string& path) {
  std::ifstream file;
  if (path != "-") {
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) {
      return absl::InvalidArgumentError(absl::StrCat(path, " is a folder; a job file is needed"));
    }
    file.open(path, std::ios::binary);
    if (!file) return absl::NotFoundError(absl::StrCat("cannot read the job file ", path));
  }
  std::istream& in = path == "-" ? std::cin : file;
  std::string text(static_cast<size_t>(kMaxBytes) + 1, '\0');
  in.read(text.data(), kMaxBytes + 1);
  text.resize(static_cast<size_t>(in.gcount()));
  if (in.gcount() > kMaxBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is longer than 1 MiB; no job spec is"));
  }
  return text;
}

// What the spec is called in errors, and its text.
struct NamedText {
  std::string name;
  std::string text;
};

absl::StatusOr<NamedText> TextOf(const JobSource& source) {
  if (source.file.empty() == source.preset.empty()) {
    return absl::InvalidArgumentError(
        "name a job file or a preset, one of the two (`weft presets` lists those)");
  }
  NamedText named;
  if (source.preset.empty()) {
    WEFT_ASSIGN_OR_RETURN(named.text, ReadAll(source.file));
    named.name = source.file == "-" ? "job spec" : source.file;
  } else {
    WEFT_ASSIGN_OR_RETURN(const Preset preset, FindPreset(source.preset));
    named = {absl::StrCat("preset ", preset.name), std::string(preset.text)};
  }
  if (!source.settings.empty()) {
    WEFT_ASSIGN_OR_RETURN(named.text, WithSettings(named.text, source.settings));
  }
  return named;
}

// Settings write the text anew: its lines are nobody's.
void ForgetLines(std::vector<spec::Violation>& violations) {
  for (spec::Violation& violation : violations) {
    const size_t line = violation.description.rfind(" (line ");
    if (line != std::string::npos) violation.description.resize(line);
  }
}

}  // namespace

absl::StatusOr<v1::JobSpec> ReadJob(const JobSource& source) {
  WEFT_ASSIGN_OR_RETURN(const NamedText named, TextOf(source));
  v1::JobSpec spec;
  std::vector<spec::Violation> violations = spec::ParseSpec(named.text, spec);
  spec::AddRules(spec::ResolveSpec(spec), violations);
  if (!source.settings.empty()) ForgetLines(violations);
  if (violations.size() > 1) {  // a line each, under the name of all
    const absl::Status status = spec::ToStatus(violations);
    return absl::Status(status.code(), absl::StrCat(named.name, ":\n", status.message()));
  }
  WEFT_RETURN_IF_ERROR(Annotate(spec::ToStatus(violations), named.name));
  std::error_code error;
  const std::filesystem::path folder =
      source.file.empty() || source.file == "-"
          ? std::filesystem::current_path(error)
          : std::filesystem::absolute(source.file, error).parent_path();
  absl::Status checked;
  spec::ChangePaths(*spec.mutable_data(), [&](const std::string& data_path) {
    std::filesystem::path whole;
    for (const std::filesystem::path& part : folder / data_path) {
      if (part != ".") whole /= part;  // `..` stays: behind a link only the kernel knows what it is
    }
    if (!IsUtf8(whole.string())) {  // its folder may be called anything, and could not be sent
      checked = absl::InvalidArgumentError(
          absl::StrCat("data: the path ", whole.string(), " must be UTF-8"));
    }
    return whole.string();
  });
  WEFT_RETURN_IF_ERROR(Annotate(checked, named.name));
  return spec;
}

}  // namespace weft::client
