#include "worker/data/generated/listops.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace weft::worker {
namespace {

// The law of the Long Range Arena's generator.
constexpr int kMaxDepth = 10;
constexpr int64_t kMaxArguments = 10;
constexpr double kOperatorProbability = 0.25;
constexpr size_t kLongerThan = 500;
constexpr size_t kShorterThan = 2000;

constexpr std::array<absl::string_view, kListOpsVocabulary> kWords = {
    "", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "[MIN", "[MAX", "[MED", "[SM", "]"};

bool IsDigit(int32_t token) { return token >= kListOpsFirstDigit && token < kListOpsMin; }
bool IsOperator(int32_t token) { return token >= kListOpsMin && token < kListOpsClose; }

// kListOpsPadding for what is none. Files have hundreds of millions of words, mostly of one letter.
int32_t TokenOf(absl::string_view word) {
  if (word.size() == 1) {
    if (absl::ascii_isdigit(static_cast<unsigned char>(word[0]))) {
      return kListOpsFirstDigit + (word[0] - '0');
    }
    return word[0] == ']' ? kListOpsClose : kListOpsPadding;
  }
  for (int32_t token = kListOpsMin; token < kListOpsClose; ++token) {
    if (word == kWords[static_cast<size_t>(token)]) return token;
  }
  return kListOpsPadding;
}

// Sorts the values of the median.
int32_t Apply(int32_t operation, absl::Span<int32_t> values) {
  switch (operation) {
    case kListOpsMin:
      return *std::min_element(values.begin(), values.end());
    case kListOpsMax:
      return *std::max_element(values.begin(), values.end());
    case kListOpsMedian: {
      std::sort(values.begin(), values.end());
      const size_t middle = values.size() / 2;
      return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
    }
    default: {
      int32_t sum = 0;
      for (const int32_t value : values) sum += value;
      return sum % 10;
    }
  }
}

// Adds a tree at `depth` to `tokens` and returns its value. Stops, with whatever value, once the
// whole tree is too long to be used.
int32_t Grow(SampleDraws& draws, int depth, std::vector<int32_t>& tokens) {
  if (tokens.size() >= kShorterThan) return 0;
  if (depth >= kMaxDepth || draws.Uniform() > kOperatorProbability) {
    const auto digit = static_cast<int32_t>(draws.Below(10));
    tokens.push_back(kListOpsFirstDigit + digit);
    return digit;
  }
  const int64_t arguments = 2 + draws.Below(kMaxArguments - 1);
  std::array<int32_t, kMaxArguments> values = {};
  const size_t place = tokens.size();
  tokens.push_back(kListOpsMin);  // drawn after the arguments
  for (int64_t i = 0; i < arguments; ++i) {
    values[static_cast<size_t>(i)] = Grow(draws, depth + 1, tokens);
  }
  tokens[place] = static_cast<int32_t>(kListOpsMin + draws.Below(4));
  tokens.push_back(kListOpsClose);
  return Apply(tokens[place], absl::MakeSpan(values).subspan(0, static_cast<size_t>(arguments)));
}

}  // namespace

ListOpsTree GenerateListOps(SampleDraws& draws, int32_t* attempts) {
  ListOpsTree tree;
  for (uint32_t attempt = 0;; ++attempt) {
    draws.StartAttempt(attempt);
    tree.tokens.clear();
    tree.value = Grow(draws, 1, tree.tokens);
    if (tree.tokens.size() <= kLongerThan || tree.tokens.size() >= kShorterThan) continue;
    if (attempts != nullptr) *attempts = static_cast<int32_t>(attempt) + 1;
    return tree;
  }
}

std::string ListOpsToText(absl::Span<const int32_t> tokens) {
  // Each list with k arguments is k + 1 applications: of the operator to the first argument, of the
  // result to the second, ..., to the closing bracket. The round brackets open before the operator.
  std::vector<size_t> open;                         // places of the operators not yet closed
  std::vector<size_t> applications(tokens.size());  // of the operator there
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (IsOperator(tokens[i])) {
      if (!open.empty()) ++applications[open.back()];
      open.push_back(i);
      continue;
    }
    if (!open.empty()) ++applications[open.back()];
    if (tokens[i] == kListOpsClose && !open.empty()) open.pop_back();
  }
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    for (size_t n = 0; n < applications[i]; ++n) text += "( ";
    absl::StrAppend(&text, kWords[static_cast<size_t>(tokens[i])]);
    // A digit, and a list with its closing bracket, end the application that they are given to. The
    // bracket ends that of its own list, and then its list ends one of the list around it.
    if (IsDigit(tokens[i]) && tokens.size() > 1) text += " )";
    if (tokens[i] == kListOpsClose) text += i + 1 == tokens.size() ? " )" : " ) )";
    if (i + 1 < tokens.size()) text += ' ';
  }
  return text;
}

absl::StatusOr<std::vector<int32_t>> ListOpsFromText(absl::string_view text, int64_t max_tokens) {
  std::vector<int32_t> tokens;
  int64_t number = 0;
  for (size_t at = 0; at < text.size() && static_cast<int64_t>(tokens.size()) < max_tokens;) {
    if (absl::ascii_isspace(static_cast<unsigned char>(text[at]))) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < text.size() && !absl::ascii_isspace(static_cast<unsigned char>(text[end]))) ++end;
    const absl::string_view word = text.substr(at, end - at);
    at = end;
    ++number;
    if (word == "(" || word == ")") continue;
    const int32_t token = TokenOf(word);
    if (token == kListOpsPadding) {
      return absl::InvalidArgumentError(
          absl::StrCat("word ", number, " is '", word.substr(0, 40),
                       "'; expected ( ) ] a digit, [MIN, [MAX, [MED or [SM"));
    }
    tokens.push_back(token);
  }
  return tokens;
}

absl::StatusOr<int32_t> EvaluateListOps(absl::Span<const int32_t> tokens) {
  struct List {
    int32_t operation;
    std::vector<int32_t> values;
  };
  std::vector<List> open = {{kListOpsPadding, {}}};  // a list around the whole
  for (const int32_t token : tokens) {
    if (IsOperator(token)) {
      open.push_back({token, {}});
    } else if (IsDigit(token)) {
      open.back().values.push_back(token - kListOpsFirstDigit);
    } else if (token == kListOpsClose && open.size() > 1 && !open.back().values.empty()) {
      const int32_t value = Apply(open.back().operation, absl::MakeSpan(open.back().values));
      open.pop_back();
      open.back().values.push_back(value);
    } else {
      return absl::InvalidArgumentError(absl::StrCat("token ", token, " does not belong here"));
    }
  }
  if (open.size() != 1 || open.front().values.size() != 1) {
    return absl::InvalidArgumentError("the tokens are not one whole tree");
  }
  return open.front().values.front();
}

}  // namespace weft::worker
