#include "worker/data/readers/words.h"

#include <cstddef>

namespace weft::worker {
namespace {

// The length of the white-space character that `text` begins with, or 0.
size_t SpaceAt(absl::string_view text) {
  const auto byte = [text](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const int first = byte(0);
  if (first < 0x80) {
    return first == ' ' || (first >= 0x09 && first <= 0x0D) || (first >= 0x1C && first <= 0x1F) ? 1
                                                                                                : 0;
  }
  const int second = byte(1);
  if (first == 0xC2) return second == 0x85 || second == 0xA0 ? 2 : 0;  // U+0085, U+00A0
  const int third = byte(2);
  if (first == 0xE1) return second == 0x9A && third == 0x80 ? 3 : 0;  // U+1680
  if (first == 0xE3) return second == 0x80 && third == 0x80 ? 3 : 0;  // U+3000
  if (first != 0xE2) return 0;
  // U+2000 to U+200A, U+2028, U+2029, U+202F; U+205F
  const bool is_space = second == 0x80 ? (third >= 0x80 && third <= 0x8A) || third == 0xA8 ||
                                             third == 0xA9 || third == 0xAF
                                       : second == 0x81 && third == 0x9F;
  return is_space ? 3 : 0;
}

}  // namespace

bool ConsumeWord(absl::string_view& text, absl::string_view& word) {
  while (!text.empty()) {
    const size_t space = SpaceAt(text);
    if (space == 0) break;
    text.remove_prefix(space);
  }
  size_t end = 0;
  while (end < text.size() && SpaceAt(text.substr(end)) == 0) ++end;
  word = text.substr(0, end);
  text.remove_prefix(end);
  return end > 0;
}

}  // namespace weft::worker
