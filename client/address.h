// Where the coordinator is, and where a local cluster keeps its state.
#pragma once

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"
#include "client/contexts.h"

namespace weft::client {

// The folder of the local cluster that `weft up` starts: $WEFT_STATE_DIR, else
// $XDG_STATE_HOME/weft, else
// ~/.local/state/weft.
std::filesystem::path DefaultStateDirectory();

// host:port of the coordinator that serves from `state_directory`, as it wrote it down. kNotFound
// when none does.
absl::StatusOr<std::string> AddressOfLocalCluster(const std::filesystem::path& state_directory);

// The folder of the files that a person configures: $XDG_CONFIG_HOME/weft, else ~/.config/weft.
std::filesystem::path ConfigDirectory();

// Comma-separated host:port. kInvalidArgument says which one is none.
absl::Status CheckAddresses(const std::string& addresses);

// The cluster to speak to: --address, else --context, else $WEFT_ADDRESS, else the context in use,
// else the local cluster. kUnavailable, with what to do, when there is none. What a context says
// about TLS holds for it; elsewhere $WEFT_TLS_CA, $WEFT_TLS_CERT, $WEFT_TLS_KEY and $WEFT_TLS_NAME
// do. What `flags` say holds before both.
absl::StatusOr<Context> ResolveContext(const Context& flags, const std::string& context_flag);

}  // namespace weft::client
