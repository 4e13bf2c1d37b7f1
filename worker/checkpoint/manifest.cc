#include "worker/checkpoint/manifest.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/file/sha256.h"

namespace weft::worker {
namespace {

constexpr int kFormatVersion = 1;

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
  nlohmann::ordered_json body = BodyOf(manifest);
  // Names are checked before they come here, so they are ASCII and dump cannot throw.
  body["sha256_of_the_above"] = Sha256Of(body.dump());
  return body.dump(2) + "\n";
}

absl::StatusOr<Manifest> ParseManifest(absl::string_view text) {
  try {
    const nlohmann::json body = nlohmann::json::parse(text.begin(), text.end());
    const auto version = body.at("version").get<int64_t>();
    if (version > kFormatVersion) {
      return absl::FailedPreconditionError(absl::StrCat(
          "written by a newer program: manifest version ", version, ", known is ", kFormatVersion));
    }
    Manifest manifest = ManifestOf(body);
    if (RenderManifest(manifest) != text) return absl::DataLossError("its own checksum is wrong");
    return manifest;
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(absl::StrCat("not a manifest: ", error.what()));
  }
}

}  // namespace weft::worker
