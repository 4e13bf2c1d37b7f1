#include "worker/relay/remote_shell_wire.h"

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::worker::remote_shell_wire {
namespace {

void AppendNumber(uint32_t value, std::string& to) {
  for (int shift = 0; shift < 32; shift += 8) to.push_back(static_cast<char>(value >> shift));
}

void AppendText(absl::string_view text, std::string& to) {
  AppendNumber(static_cast<uint32_t>(text.size()), to);
  to.append(text.data(), text.size());
}

std::string WithLength(const std::string& body) {
  std::string message;
  AppendNumber(static_cast<uint32_t>(body.size()), message);
  return message + body;
}

absl::StatusOr<uint32_t> TakeNumber(absl::string_view& from) {
  if (from.size() < 4) return absl::InvalidArgumentError("a remote shell message is cut short");
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) {
    value |= static_cast<uint32_t>(static_cast<uint8_t>(from[i])) << (8 * i);
  }
  from.remove_prefix(4);
  return value;
}

absl::StatusOr<std::string> TakeText(absl::string_view& from) {
  WEFT_ASSIGN_OR_RETURN(const uint32_t size, TakeNumber(from));
  if (size > from.size()) return absl::InvalidArgumentError("a remote shell text is cut short");
  std::string text(from.substr(0, size));
  from.remove_prefix(size);
  return text;
}

}  // namespace

std::string EncodeRequest(const RemoteShellRequest& request) {
  std::string body(1, static_cast<char>(kVersion));
  AppendText(request.token, body);
  AppendText(request.host, body);
  AppendText(request.command, body);
  return WithLength(body);
}

std::string EncodeAnswer(const Answer& answer) {
  std::string body;
  AppendNumber(static_cast<uint32_t>(answer.exit_status), body);
  AppendText(answer.message, body);
  return WithLength(body);
}

absl::StatusOr<std::optional<std::string>> TakeMessage(absl::string_view received) {
  if (received.size() < 4) return std::optional<std::string>();
  WEFT_ASSIGN_OR_RETURN(const uint32_t size, TakeNumber(received));
  if (size > kMostBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a remote shell message of ", size,
                                                   " bytes; at most ", kMostBytes, " are allowed"));
  }
  if (received.size() < size) return std::optional<std::string>();
  return std::optional<std::string>(std::string(received.substr(0, size)));
}

absl::StatusOr<RemoteShellRequest> DecodeRequest(absl::string_view message) {
  if (message.empty() || static_cast<uint8_t>(message[0]) != kVersion) {
    return absl::InvalidArgumentError("a remote shell request of another version");
  }
  message.remove_prefix(1);
  RemoteShellRequest request;
  WEFT_ASSIGN_OR_RETURN(request.token, TakeText(message));
  WEFT_ASSIGN_OR_RETURN(request.host, TakeText(message));
  WEFT_ASSIGN_OR_RETURN(request.command, TakeText(message));
  if (!message.empty()) return absl::InvalidArgumentError("bytes behind a remote shell request");
  return request;
}

absl::StatusOr<Answer> DecodeAnswer(absl::string_view message) {
  Answer answer;
  WEFT_ASSIGN_OR_RETURN(const uint32_t exit_status, TakeNumber(message));
  answer.exit_status = static_cast<int32_t>(exit_status);
  WEFT_ASSIGN_OR_RETURN(answer.message, TakeText(message));
  if (!message.empty()) return absl::InvalidArgumentError("bytes behind a remote shell answer");
  return answer;
}

}  // namespace weft::worker::remote_shell_wire
