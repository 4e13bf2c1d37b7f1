#include "proto/spec/violation.h"

#include "absl/strings/str_cat.h"

namespace weft::spec {

absl::Status ToStatus(absl::Span<const Violation> violations) {
  if (violations.empty()) return absl::OkStatus();
  std::string text;
  for (const Violation& violation : violations) {
    absl::StrAppend(&text, text.empty() ? "" : "\n", violation.field,
                    violation.field.empty() ? "" : ": ", violation.description);
  }
  return absl::InvalidArgumentError(text);
}

}  // namespace weft::spec
