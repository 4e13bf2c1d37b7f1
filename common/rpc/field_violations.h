// Errors in single fields of a request, as a payload of absl::Status in the form of
// google.rpc.BadRequest: grpc_status.h carries it to the other side, where any gRPC client can read
// it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace weft {

inline constexpr char kBadRequestTypeUrl[] = "type.googleapis.com/google.rpc.BadRequest";

struct FieldViolation {
  std::string field;        // a path: "spec.training.batch_size"
  std::string description;  // what is wrong and what is allowed

  friend bool operator==(const FieldViolation&, const FieldViolation&) = default;
};

// kInvalidArgument whose message lists all violations and which carries them as its payload. OK
// when there are none.
absl::Status InvalidFields(absl::Span<const FieldViolation> violations);
absl::Status InvalidField(absl::string_view field, absl::string_view description);
// The violations that a status carries; empty when there are none.
std::vector<FieldViolation> FieldViolationsOf(const absl::Status& status);

}  // namespace weft
