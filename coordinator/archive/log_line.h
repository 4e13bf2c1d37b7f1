// How a log line stands in a file: "2026-03-01T12:00:00.123456Z host-a/0 g2 #17 text". Rank -1, the
// agent itself, is written "host-a/agent".
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "weft/v1/job.pb.h"

namespace weft::coordinator {

// With the end of line. Line breaks within the text become spaces; a text over 16 KiB is cut.
std::string FormatLogLine(const v1::LogLine& line, absl::string_view worker, int64_t number);

struct ParsedLogLine {
  v1::LogLine line;
  int64_t number = 0;
};
// `text` is without the end of line. Nothing when it is no log line (a header, or damage).
std::optional<ParsedLogLine> ParseLogLine(absl::string_view text);

int64_t MicrosOf(const google::protobuf::Timestamp& time);

}  // namespace weft::coordinator
