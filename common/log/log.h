// One line per event on standard error, for people and for grep:
//
//   2026-03-01T12:00:00.123Z info driver: job placed job=jobs/demo-3 generation=2
//
// Any thread. Values are escaped, so that a line stays one line whatever a peer has sent.
#pragma once

#include <initializer_list>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace weft {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// One "key=value". Takes what absl::StrCat takes: {"job", name}, {"generation", 2}.
struct LogField {
  LogField(absl::string_view field_key, const absl::AlphaNum& field_value)
      : key(field_key), value(field_value.Piece()) {}

  absl::string_view key;
  std::string value;
};

// `component` is the part of the program that speaks ("driver"); `text` is constant, what varies is
// in the fields.
void Log(LogLevel level, absl::string_view component, absl::string_view text,
         std::initializer_list<LogField> fields = {});

inline void LogDebug(absl::string_view component, absl::string_view text,
                     std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kDebug, component, text, fields);
}
inline void LogInfo(absl::string_view component, absl::string_view text,
                    std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kInfo, component, text, fields);
}
inline void LogWarning(absl::string_view component, absl::string_view text,
                       std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kWarning, component, text, fields);
}
inline void LogError(absl::string_view component, absl::string_view text,
                     std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kError, component, text, fields);
}

// Events below the level are dropped; kInfo until this is called.
void SetLogLevel(LogLevel level);
// From a flag's text: debug, info, warning or error; otherwise kInvalidArgument, which says so.
absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text);
absl::Status SetLogLevel(absl::string_view text);

}  // namespace weft
