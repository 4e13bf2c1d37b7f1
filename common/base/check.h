// WEFT_CHECK: an invariant of the program itself. On in every build; never reachable from the
// network, a file or a user (those get an absl::Status). A failed check prints where and what, and
// aborts.
#pragma once

#include "absl/strings/string_view.h"

namespace weft {

// Prints "file:line: check failed: condition: detail" to standard error and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              absl::string_view detail);

}  // namespace weft

#define WEFT_CHECK(condition)                                  \
  do {                                                         \
    if (!(condition)) [[unlikely]] {                           \
      ::weft::CheckFailed(__FILE__, __LINE__, #condition, ""); \
    }                                                          \
  } while (false)

// The same with a sentence that carries the values: WEFT_CHECK_MSG(a < b, absl::StrCat(a, " ", b)).
#define WEFT_CHECK_MSG(condition, detail)                          \
  do {                                                             \
    if (!(condition)) [[unlikely]] {                               \
      ::weft::CheckFailed(__FILE__, __LINE__, #condition, detail); \
    }                                                              \
  } while (false)
