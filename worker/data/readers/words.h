// Words of a text, separated by white space as Python's str.split() understands it, so that counts
// equal those that are published.
#pragma once

#include "absl/strings/string_view.h"

namespace weft::worker {

// Takes the first word off `text` (UTF-8); false when only white space is left.
bool ConsumeWord(absl::string_view& text, absl::string_view& word);

}  // namespace weft::worker
