// ListOps expressions (Nangia and Bowman 2018) as the Long Range Arena generates them (Tay et al.
// 2021): nested lists of MIN, MAX, MED (median) and SM (sum modulo 10) over digits.
// A tree is kept as its tokens in prefix order: an operator, its arguments, a closing bracket.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/data/generated/sample_draws.h"

namespace weft::worker {

// Token d + 1 is the digit d; 0 is padding.
enum ListOpsToken : int32_t {
  kListOpsPadding = 0,
  kListOpsFirstDigit = 1,
  kListOpsMin = 11,
  kListOpsMax = 12,
  kListOpsMedian = 13,
  kListOpsSumMod = 14,
  kListOpsClose = 15,
};
constexpr int32_t kListOpsVocabulary = 16;
constexpr int32_t kListOpsClasses = 10;

struct ListOpsTree {
  std::vector<int32_t> tokens;
  int32_t value = 0;  // 0 to 9
};

// A tree of the generator's law whose length is above 500 and below 2000. Each attempt has its own
// draws: at depth 1 to 9 an operator with probability 0.25, else a digit; at depth 10 a digit; 2 to
// 10 arguments. `attempts`, if given, is the number it took.
ListOpsTree GenerateListOps(SampleDraws& draws, int32_t* attempts = nullptr);

// The file's form, left-nested applications with brackets: `[MAX 2 9 ]` is
// `( ( ( [MAX 2 ) 9 ) ] )`.
std::string ListOpsToText(absl::Span<const int32_t> tokens);

// The tokens of a text of that form, at most `max_tokens` of them: round brackets are left out.
// kInvalidArgument with the word that is not a token and its number.
absl::StatusOr<std::vector<int32_t>> ListOpsFromText(absl::string_view text, int64_t max_tokens);

// kInvalidArgument when the tokens are not one whole tree.
absl::StatusOr<int32_t> EvaluateListOps(absl::Span<const int32_t> tokens);

}  // namespace weft::worker
