#include "client/address.h"

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"
#include "common/net/listen_address.h"

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

std::filesystem::path ConfigDirectory() {
  if (const std::string xdg = Environment("XDG_CONFIG_HOME"); !xdg.empty()) {
    return std::filesystem::path(xdg) / "weft";
  }
  const std::string home = Environment("HOME");
  return std::filesystem::path(home.empty() ? "/etc" : home + "/.config") / "weft";
}

absl::Status CheckAddresses(const std::string& addresses) {
  for (const absl::string_view one : absl::StrSplit(addresses, ',')) {
    if (absl::StartsWith(one, "unix:")) continue;
    if (const auto parsed = ParseListenAddress(std::string(one)); !parsed.ok()) {
      return Annotate(parsed.status(), "the coordinator's address");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Context> ResolveContext(const std::string& address_flag,
                                       const std::string& context_flag) {
  Context found;
  if (!address_flag.empty()) {
    found.address = address_flag;
  } else if (!context_flag.empty()) {
    WEFT_ASSIGN_OR_RETURN(const Contexts contexts, ReadContexts(ContextsPath()));
    WEFT_ASSIGN_OR_RETURN(found, contexts.Find(context_flag));
  } else if (const std::string address = Environment("WEFT_ADDRESS"); !address.empty()) {
    found.address = address;
  } else {
    WEFT_ASSIGN_OR_RETURN(const Contexts contexts, ReadContexts(ContextsPath()));
    if (!contexts.current.empty()) {
      WEFT_ASSIGN_OR_RETURN(found, contexts.Find(contexts.current));
    } else if (auto local = AddressOfLocalCluster(DefaultStateDirectory()); local.ok()) {
      found.address = *local;
    } else {
      return absl::UnavailableError(
          "no coordinator is known: start a local cluster with 'weft up', or name one with "
          "--address HOST:PORT, WEFT_ADDRESS or 'weft context set NAME HOST:PORT'");
    }
  }
  WEFT_RETURN_IF_ERROR(CheckAddresses(found.address));
  return found;
}

}  // namespace weft::client
