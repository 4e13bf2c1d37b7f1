// Where the coordinator is, and where a local cluster keeps its state.
#pragma once

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"

namespace weft::client {

// The folder of the local cluster that `weft up` starts: $WEFT_STATE_DIR, else
// $XDG_STATE_HOME/weft, else
// ~/.local/state/weft.
std::filesystem::path DefaultStateDirectory();

// host:port of the coordinator that serves from `state_directory`, as it wrote it down. kNotFound
// when none does.
absl::StatusOr<std::string> AddressOfLocalCluster(const std::filesystem::path& state_directory);

// The address to use: `flag` (--address), else $WEFT_ADDRESS, else the local cluster. kUnavailable,
// with what to do, when there is none.
absl::StatusOr<std::string> ResolveAddress(const std::string& flag);

}  // namespace weft::client
