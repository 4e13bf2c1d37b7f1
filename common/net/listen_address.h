// "host:port" as flags and configuration files write it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weft {

struct ListenAddress {
  std::string host;  // an IPv6 address keeps its brackets
  int port = 0;      // 0: any free one
};

// kInvalidArgument, which says what is allowed.
absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text);

// Parses, and sees whether this process could listen there now: kUnavailable when the port is in
// use, kPermissionDenied when the system does not allow it, kInvalidArgument when the host is none
// of this machine's. A later attempt may still lose a race, but the usual errors get a sentence.
absl::StatusOr<ListenAddress> CheckListenAddress(absl::string_view text);

}  // namespace weft
