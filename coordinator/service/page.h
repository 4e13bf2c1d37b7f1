// Pages of lists: an opaque token says where the next page begins and which list it belongs to.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weft::coordinator {

struct PageLimits {
  int32_t default_size = 50;
  int32_t max_size = 1000;
};

struct Page {
  int32_t size = 0;
  std::string after;  // the last entry of the page before; empty: from the beginning
};

// `arguments` are all other fields that must not change between pages, as one text.
// kInvalidArgument for a negative page_size, and for a token that this server did not make or made
// for other arguments.
absl::StatusOr<Page> ParsePage(int32_t page_size, absl::string_view page_token,
                               absl::string_view arguments, PageLimits limits = {});

// The token of the page that begins after the entry `last`.
std::string MakePageToken(absl::string_view last, absl::string_view arguments);

}  // namespace weft::coordinator
