// Early return on errors. The shape follows the macros of later Abseil releases, so that an upgrade
// is a rename.
//
//   WEFT_RETURN_IF_ERROR(Save(path));
//   WEFT_ASSIGN_OR_RETURN(auto file, Open(path));
//   return Annotate(status, "loading shard 7");
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace weft {

// The same code with "context: " before the message; OK stays OK. One layer adds context once.
inline absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(context, ": ", status.message()));
}

namespace internal {
inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}
}  // namespace internal
}  // namespace weft

#define WEFT_RETURN_IF_ERROR(expression)                                     \
  do {                                                                       \
    if (auto weft_status_ = (expression); !weft_status_.ok()) [[unlikely]] { \
      return ::weft::internal::StatusOf(weft_status_);                       \
    }                                                                        \
  } while (false)

#define WEFT_STATUS_CONCAT_INNER_(a, b) a##b
#define WEFT_STATUS_CONCAT_(a, b) WEFT_STATUS_CONCAT_INNER_(a, b)
// `target` may be a declaration, which takes no parentheses.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define WEFT_ASSIGN_OR_RETURN(target, expression) \
  WEFT_ASSIGN_OR_RETURN_IMPL_(WEFT_STATUS_CONCAT_(weft_result_, __LINE__), target, expression)
#define WEFT_ASSIGN_OR_RETURN_IMPL_(result, target, expression) \
  auto result = (expression);                                   \
  if (!result.ok()) [[unlikely]] {                              \
    return result.status();                                     \
  }                                                             \
  target = std::move(result).value()
// NOLINTEND(bugprone-macro-parentheses)
