#include "coordinator/archive/log_line.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "common/base/utf8.h"

namespace weft::coordinator {
namespace {

constexpr size_t kMaxTextBytes = 16 << 10;
constexpr char kTimeFormat[] = "%Y-%m-%dT%H:%M:%E6SZ";
constexpr absl::string_view kAgent = "agent";

// Takes the text up to the next space.
absl::string_view TakeWord(absl::string_view& rest) {
  const size_t space = std::min(rest.find(' '), rest.size());
  const absl::string_view word = rest.substr(0, space);
  rest.remove_prefix(std::min(space + 1, rest.size()));
  return word;
}

}  // namespace

int64_t MicrosOf(const google::protobuf::Timestamp& time) {
  return time.seconds() * 1000000 + time.nanos() / 1000;
}

std::string FormatLogLine(const v1::LogLine& line, absl::string_view worker, int64_t number) {
  const absl::Time time = absl::FromUnixMicros(MicrosOf(line.time()));
  std::string text(Utf8Prefix(line.text(), kMaxTextBytes));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  const std::string rank = line.rank() < 0 ? std::string(kAgent) : absl::StrCat(line.rank());
  return absl::StrCat(absl::FormatTime(kTimeFormat, time, absl::UTCTimeZone()), " ", worker, "/",
                      rank, " g", line.generation(), " #", number, " ", text, "\n");
}

std::optional<ParsedLogLine> ParseLogLine(absl::string_view text) {
  ParsedLogLine parsed;
  const absl::string_view time_word = TakeWord(text);
  absl::string_view source = TakeWord(text);
  absl::string_view generation_word = TakeWord(text);
  absl::string_view number_word = TakeWord(text);
  absl::Time time;
  std::string error;
  const size_t slash = source.rfind('/');
  int64_t generation = 0;
  if (slash == absl::string_view::npos || !absl::ConsumePrefix(&generation_word, "g") ||
      !absl::SimpleAtoi(generation_word, &generation) || !absl::ConsumePrefix(&number_word, "#") ||
      !absl::SimpleAtoi(number_word, &parsed.number) ||
      !absl::ParseTime(kTimeFormat, time_word, &time, &error)) {
    return std::nullopt;
  }
  int32_t rank = -1;
  const absl::string_view rank_word = source.substr(slash + 1);
  if (rank_word != kAgent && !absl::SimpleAtoi(rank_word, &rank)) return std::nullopt;
  const int64_t micros = absl::ToUnixMicros(time);
  parsed.line.mutable_time()->set_seconds(micros / 1000000);
  parsed.line.mutable_time()->set_nanos(static_cast<int32_t>(micros % 1000000) * 1000);
  parsed.line.set_worker(std::string(source.substr(0, slash)));
  parsed.line.set_rank(rank);
  parsed.line.set_generation(generation);
  parsed.line.set_text(std::string(text));
  return parsed;
}

}  // namespace weft::coordinator
