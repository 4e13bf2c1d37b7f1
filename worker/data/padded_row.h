// Rows of tokens that are shorter than a sample: cut, and padded with token 0.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace weft::worker {

// `tokens` and then padding; `row` and `valid` have the same length, at least that of `tokens`.
void WritePaddedRow(absl::Span<const int32_t> tokens, absl::Span<int32_t> row,
                    absl::Span<int32_t> valid);

// Bytes as tokens: byte + 1, so that 0 stays free for padding; the vocabulary has 257 tokens. At
// most `max_tokens` bytes are used.
constexpr int32_t kPaddedByteVocabulary = 257;
void WritePaddedBytes(absl::string_view text, int64_t max_tokens, absl::Span<int32_t> row,
                      absl::Span<int32_t> valid);

// That at least one and at most a whole sample's tokens are used.
absl::Status CheckMaxTokens(int64_t max_tokens, int64_t sequence);

}  // namespace weft::worker
