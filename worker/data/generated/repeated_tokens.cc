#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "worker/data/generated/tasks.h"

namespace weft::worker {
namespace {

class RepeatedTokens : public GeneratedTask {
 public:
  RepeatedTokens(int64_t sequence, const RepeatedTokensOptions& options)
      : options_(options),
        shape_{.sequence = sequence, .vocabulary = options.symbols + 1, .classes = 2} {}

  [[nodiscard]] const SampleShape& shape() const override { return shape_; }

  void Generate(SampleDraws& draws, const SampleBuffers& into) const override {
    std::vector<int32_t> occurrences(static_cast<size_t>(options_.symbols) + 1);
    for (int32_t& token : into.tokens) {
      token = static_cast<int32_t>(1 + draws.Below(options_.symbols));
      ++occurrences[static_cast<size_t>(token)];
    }
    for (size_t i = 0; i < into.tokens.size(); ++i) {
      into.targets[i] = occurrences[static_cast<size_t>(into.tokens[i])] > 1 ? 1 : 0;
    }
  }

  [[nodiscard]] std::string Describe() const override {
    return absl::StrCat("repeated tokens of ", options_.symbols, " symbols");
  }

 private:
  RepeatedTokensOptions options_;
  SampleShape shape_;
};

}  // namespace

GeneratedTaskOr NewRepeatedTokensTask(int64_t sequence, const RepeatedTokensOptions& options) {
  if (sequence < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("the sequence of repeated tokens is ", sequence, "; it must be at least 2"));
  }
  WEFT_RETURN_IF_ERROR(CheckSymbols(options.symbols));
  return std::make_unique<RepeatedTokens>(sequence, options);
}

}  // namespace weft::worker
