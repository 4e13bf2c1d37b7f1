#include "client/job_file.h"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
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

}  // namespace

absl::StatusOr<v1::JobSpec> ReadJobFile(const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(const std::string text, ReadAll(path));
  v1::JobSpec spec;
  std::vector<spec::Violation> violations = spec::ParseSpec(text, spec);
  // The rules are applied to what could be read, so that all problems are named at once; a field
  // that could not be read is not reported a second time as missing.
  std::vector<spec::Violation> rules = spec::ResolveSpec(spec);
  for (spec::Violation& rule : rules) {
    const bool known = std::any_of(violations.begin(), violations.end(), [&](const auto& v) {
      return v.field.empty() || v.field == rule.field;
    });
    if (!known) violations.push_back(std::move(rule));
  }
  WEFT_RETURN_IF_ERROR(Annotate(spec::ToStatus(violations), path == "-" ? "job spec" : path));
  std::error_code error;
  const std::filesystem::path folder = path == "-"
                                           ? std::filesystem::current_path(error)
                                           : std::filesystem::absolute(path, error).parent_path();
  spec::ChangePaths(*spec.mutable_data(), [&folder](const std::string& data_path) {
    return (folder / data_path).lexically_normal().string();
  });
  return spec;
}

}  // namespace weft::client
