#include "common/rpc/grpc_status.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "common/base/utf8.h"
#include "common/rpc/error_details.pb.h"

namespace weft {
namespace {

// Clients accept 8 KiB of trailers by default, with the message percent-encoded and the details in
// base64. What is longer would turn the error into another one, about trailers.
constexpr size_t kMaxMessageBytes = 3000;
constexpr size_t kMaxDetailsBytes = 3000;

std::string Shortened(absl::string_view message) {
  size_t encoded = 0;
  for (size_t i = 0; i < message.size(); ++i) {
    encoded += message[i] >= ' ' && message[i] < '\x7f' && message[i] != '%' ? 1 : 3;
    if (encoded > kMaxMessageBytes) {
      const absl::string_view begin = Utf8Prefix(message, i);
      return absl::StrCat(begin, " ... (", message.size() - begin.size(), " more bytes)");
    }
  }
  return std::string(message);
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message = Shortened(status.message());
  rpc::RichStatus rich;
  status.ForEachPayload([&](absl::string_view type_url, const absl::Cord& value) {
    google::protobuf::Any& detail = *rich.add_details();
    detail.set_type_url(std::string(type_url));
    detail.set_value(std::string(value));
  });
  if (rich.details().empty()) return grpc::Status(code, message);
  rich.set_code(static_cast<int>(code));
  rich.set_message(message);
  std::string details = rich.SerializeAsString();
  if (details.size() > kMaxDetailsBytes) {
    rich.set_message("");  // stands in the status anyway
    details = rich.SerializeAsString();
  }
  if (details.size() > kMaxDetailsBytes) return grpc::Status(code, message);
  return grpc::Status(code, message, details);
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  rpc::RichStatus rich;
  if (!status.error_details().empty() && rich.ParseFromString(status.error_details())) {
    for (const google::protobuf::Any& detail : rich.details()) {
      result.SetPayload(detail.type_url(), absl::Cord(detail.value()));
    }
  }
  return result;
}

}  // namespace weft
