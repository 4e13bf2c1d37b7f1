#include "worker/data/padded_row.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"

namespace weft::worker {
namespace {

void Pad(size_t used, absl::Span<int32_t> row, absl::Span<int32_t> valid) {
  std::fill(row.begin() + static_cast<ptrdiff_t>(used), row.end(), 0);
  std::fill_n(valid.begin(), used, 1);
  std::fill(valid.begin() + static_cast<ptrdiff_t>(used), valid.end(), 0);
}

}  // namespace

void WritePaddedRow(absl::Span<const int32_t> tokens, absl::Span<int32_t> row,
                    absl::Span<int32_t> valid) {
  WEFT_CHECK(tokens.size() <= row.size() && valid.size() == row.size());
  std::copy(tokens.begin(), tokens.end(), row.begin());
  Pad(tokens.size(), row, valid);
}

void WritePaddedBytes(absl::string_view text, int64_t max_tokens, absl::Span<int32_t> row,
                      absl::Span<int32_t> valid) {
  const size_t used = std::min(text.size(), static_cast<size_t>(max_tokens));
  WEFT_CHECK(used <= row.size() && valid.size() == row.size());
  for (size_t i = 0; i < used; ++i) row[i] = 1 + static_cast<unsigned char>(text[i]);
  Pad(used, row, valid);
}

absl::Status CheckMaxTokens(int64_t max_tokens, int64_t sequence) {
  if (max_tokens >= 1 && max_tokens <= sequence) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "max_tokens is ", max_tokens, "; it must be 1 to the length of a sample, ", sequence));
}

}  // namespace weft::worker
