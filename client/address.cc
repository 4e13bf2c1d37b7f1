#include "client/address.h"

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace weft::client {
namespace {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): before any thread starts
  return value == nullptr ? "" : value;
}

}  // namespace

std::filesystem::path DefaultStateDirectory() {
  if (const std::string own = Environment("WEFT_STATE_DIR"); !own.empty()) return own;
  if (const std::string xdg = Environment("XDG_STATE_HOME"); !xdg.empty()) {
    return std::filesystem::path(xdg) / "weft";
  }
  const std::string home = Environment("HOME");
  return std::filesystem::path(home.empty() ? "/var/lib" : home + "/.local/state") / "weft";
}

absl::StatusOr<std::string> AddressOfLocalCluster(const std::filesystem::path& state_directory) {
  const std::filesystem::path path = state_directory / "coordinator.json";
  std::ifstream file(path);
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("address") || !json["address"].is_string()) {
    return absl::NotFoundError(
        absl::StrCat("no coordinator serves from ", state_directory.string()));
  }
  return json["address"].get<std::string>();
}

absl::StatusOr<std::string> ResolveAddress(const std::string& flag) {
  if (!flag.empty()) return flag;
  if (std::string address = Environment("WEFT_ADDRESS"); !address.empty()) return address;
  if (auto address = AddressOfLocalCluster(DefaultStateDirectory()); address.ok()) return *address;
  return absl::UnavailableError(
      "no coordinator is known: start a local cluster with 'weft up', or name one with --address "
      "HOST:PORT or WEFT_ADDRESS");
}

}  // namespace weft::client
