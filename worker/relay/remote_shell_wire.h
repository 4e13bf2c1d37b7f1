// The bytes of remote_shell.h, for its two ends. Nothing here blocks or does I/O.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/relay/remote_shell.h"

namespace weft::worker::remote_shell_wire {

inline constexpr uint8_t kVersion = 1;
// orted's command line has 1 to 2 KB and grows with the names of the hosts.
inline constexpr size_t kMostBytes = size_t{1} << 20;

struct Answer {
  int32_t exit_status = 0;
  std::string message;
};

std::string EncodeRequest(const RemoteShellRequest& request);
std::string EncodeAnswer(const Answer& answer);

// The first complete message in `received`, without its length; nothing while it is incomplete.
// kInvalidArgument when it is longer than kMostBytes.
absl::StatusOr<std::optional<std::string>> TakeMessage(absl::string_view received);

// kInvalidArgument when the bytes are not what they should be.
absl::StatusOr<RemoteShellRequest> DecodeRequest(absl::string_view message);
absl::StatusOr<Answer> DecodeAnswer(absl::string_view message);

}  // namespace weft::worker::remote_shell_wire
