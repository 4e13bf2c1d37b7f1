#include "worker/checkpoint/manifest.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/file/sha256.h"

namespace weft::worker {
namespace {

constexpr int kFormatVersion = 1;
constexpr absl::string_view kEnd = "\n}";  // of a JSON object as the library lays it out

// The end of a manifest whose earlier part is `above`.
std::string ChecksumLines(absl::string_view above) {
  return absl::StrCat("  \"sha256_of_the_above\": \"", Sha256Of(above), "\"", kEnd, "\n");
}

nlohmann::ordered_json BodyOf(const Manifest& manifest) {
  nlohmann::ordered_json body;
  body["format"] = "weft.checkpoint";
  body["version"] = kFormatVersion;
  body["generation"] = manifest.id.generation;
  body["step"] = manifest.id.step;
  body["files"] = nlohmann::ordered_json::array();
  for (const CheckpointFile& file : manifest.files) {
    nlohmann::ordered_json entry;
    entry["name"] = file.name;
    entry["bytes"] = file.bytes;
    entry["sha256"] = file.sha256;
    body["files"].push_back(std::move(entry));
  }
  return body;
}

// May throw what the JSON library throws on a missing field or a wrong type.
Manifest ManifestOf(const nlohmann::json& body) {
  Manifest manifest;
  manifest.id.generation = body.at("generation").get<int64_t>();
  manifest.id.step = body.at("step").get<int64_t>();
  for (const nlohmann::json& entry : body.at("files")) {
    manifest.files.push_back({entry.at("name").get<std::string>(), entry.at("bytes").get<int64_t>(),
                              entry.at("sha256").get<std::string>()});
  }
  return manifest;
}

}  // namespace

std::string RenderManifest(const Manifest& manifest) {
  // Names are checked before they come here, so they are ASCII and dump cannot throw.
  std::string text = BodyOf(manifest).dump(2);
  text.resize(text.size() - kEnd.size());  // the closing brace comes after the checksum
  text += ",\n";
  return absl::StrCat(text, ChecksumLines(text));
}

absl::StatusOr<Manifest> ParseManifest(absl::string_view text) {
  // First the checksum, over the raw text and whatever the version: a flipped bit must not pass for
  // the work of a newer program.
  const size_t lines = ChecksumLines("").size();
  if (text.size() < lines) return absl::DataLossError("not a manifest: it is cut");
  if (text.substr(text.size() - lines) != ChecksumLines(text.substr(0, text.size() - lines))) {
    return absl::DataLossError("not a manifest, or changed: its own checksum is wrong");
  }
  try {
    const nlohmann::json body = nlohmann::json::parse(text.begin(), text.end());
    const auto version = body.at("version").get<int64_t>();
    if (version != kFormatVersion) {
      return absl::FailedPreconditionError(
          absl::StrCat("written by another version of the program: manifest version ", version,
                       ", known is ", kFormatVersion));
    }
    return ManifestOf(body);
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(absl::StrCat("not a manifest: ", error.what()));
  }
}

}  // namespace weft::worker
