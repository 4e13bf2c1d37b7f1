#include "common/rpc/field_violations.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "common/rpc/error_details.pb.h"

namespace weft {
namespace {
constexpr size_t kMaxDetailsBytes = 2500;
}  // namespace

absl::Status InvalidFields(absl::Span<const FieldViolation> violations) {
  if (violations.empty()) return absl::OkStatus();
  std::string message;
  rpc::BadRequest details;
  for (const FieldViolation& violation : violations) {
    absl::StrAppend(&message, message.empty() ? "" : "\n", violation.field,
                    violation.field.empty() ? "" : ": ", violation.description);
    rpc::BadRequest::FieldViolation& out = *details.add_field_violations();
    out.set_field(violation.field);
    out.set_description(violation.description);
  }
  // The details share the trailers of a call with the message; the message keeps what they lose.
  while (details.ByteSizeLong() > kMaxDetailsBytes && details.field_violations_size() > 1) {
    details.mutable_field_violations()->RemoveLast();
  }
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kBadRequestTypeUrl, absl::Cord(details.SerializeAsString()));
  return status;
}

absl::Status InvalidField(absl::string_view field, absl::string_view description) {
  return InvalidFields({FieldViolation{std::string(field), std::string(description)}});
}

std::vector<FieldViolation> FieldViolationsOf(const absl::Status& status) {
  std::vector<FieldViolation> violations;
  rpc::BadRequest details;
  const auto payload = status.GetPayload(kBadRequestTypeUrl);
  if (!payload.has_value() || !details.ParseFromString(std::string(*payload))) return violations;
  for (const rpc::BadRequest::FieldViolation& violation : details.field_violations()) {
    violations.push_back({violation.field(), violation.description()});
  }
  return violations;
}

}  // namespace weft
