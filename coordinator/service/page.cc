#include "coordinator/service/page.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/file/sha256.h"
#include "common/rpc/field_violations.h"

namespace weft::coordinator {
namespace {

constexpr size_t kFingerprintSize = 12;

std::string Fingerprint(absl::string_view last, absl::string_view arguments) {
  Sha256 hash;
  hash.UpdateInteger(last.size());
  hash.Update(last);
  hash.Update(arguments);
  return hash.Finish().substr(0, kFingerprintSize);
}

}  // namespace

std::string MakePageToken(absl::string_view last, absl::string_view arguments) {
  return absl::WebSafeBase64Escape(absl::StrCat(Fingerprint(last, arguments), last));
}

absl::StatusOr<Page> ParsePage(int32_t page_size, absl::string_view page_token,
                               absl::string_view arguments, PageLimits limits) {
  if (page_size < 0) {
    return InvalidField(
        "page_size", absl::StrCat(page_size, " is negative; allowed: 0 for ", limits.default_size,
                                  ", or 1 to ", limits.max_size));
  }
  Page page;
  page.size = page_size == 0 ? limits.default_size : std::min(page_size, limits.max_size);
  if (page_token.empty()) return page;
  std::string token;
  if (absl::WebSafeBase64Unescape(page_token, &token) && token.size() > kFingerprintSize) {
    page.after = token.substr(kFingerprintSize);
    if (token.substr(0, kFingerprintSize) == Fingerprint(page.after, arguments)) return page;
  }
  return InvalidField("page_token",
                      "not a next_page_token of this list; the other fields must be as they were");
}

}  // namespace weft::coordinator
