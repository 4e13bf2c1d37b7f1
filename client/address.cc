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

Context ContextOfEnvironment(const std::string& address) {
  Context context;
  context.address = address;
  context.tls.ca = Environment("WEFT_TLS_CA");
  context.tls.cert = Environment("WEFT_TLS_CERT");
  context.tls.key = Environment("WEFT_TLS_KEY");
  context.tls_name = Environment("WEFT_TLS_NAME");
  return context;
}

absl::StatusOr<Context> FindCluster(const std::string& address_flag,
                                    const std::string& context_flag) {
  if (!address_flag.empty()) return ContextOfEnvironment(address_flag);
  const std::string address = context_flag.empty() ? Environment("WEFT_ADDRESS") : "";
  if (!address.empty()) return ContextOfEnvironment(address);
  WEFT_ASSIGN_OR_RETURN(const Contexts contexts, ReadContexts(ContextsPath()));
  if (!context_flag.empty()) return contexts.Find(context_flag);
  if (!contexts.current.empty()) return contexts.Find(contexts.current);
  const auto local = AddressOfLocalCluster(DefaultStateDirectory());
  if (local.ok()) return ContextOfEnvironment(*local);
  return absl::UnavailableError(
      "no coordinator is known: start a local cluster with 'weft up', or name one with "
      "--address HOST:PORT, WEFT_ADDRESS or 'weft context set NAME HOST:PORT'");
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
    const auto parsed = ParseListenAddress(one);  // the same form, but that one names a port
    if (!parsed.ok() || parsed->port == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", one,
                       "' is no address of a coordinator; allowed: host:port, for example "
                       "127.0.0.1:7733, with a port from 1 to 65535"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Context> ResolveContext(const Context& flags, const std::string& context_flag) {
  WEFT_ASSIGN_OR_RETURN(Context found, FindCluster(flags.address, context_flag));
  const auto override = [](std::string& value, const std::string& flag) {
    if (!flag.empty()) value = flag;
  };
  override(found.tls.ca, flags.tls.ca);
  override(found.tls.cert, flags.tls.cert);
  override(found.tls.key, flags.tls.key);
  override(found.tls_name, flags.tls_name);
  WEFT_RETURN_IF_ERROR(CheckAddresses(found.address));
  return found;
}

}  // namespace weft::client
