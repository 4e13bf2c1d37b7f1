// What is valid UTF-8, and cutting text without cutting a character: protobuf refuses other
// strings.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace weft {

// The bytes of the valid character that `text`, which is not empty, starts with; 0 when it starts
// with none.
size_t Utf8CharacterLength(absl::string_view text);
bool IsUtf8(absl::string_view text);
// `text` with every byte that is no part of valid UTF-8 replaced by U+FFFD.
std::string ToValidUtf8(absl::string_view text);

// The longest beginning of `text`, which is valid UTF-8, of at most max_bytes bytes and whole
// characters.
inline absl::string_view Utf8Prefix(absl::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  while (max_bytes > 0 && (static_cast<unsigned char>(text[max_bytes]) & 0xC0) == 0x80) --max_bytes;
  return text.substr(0, max_bytes);
}

}  // namespace weft
