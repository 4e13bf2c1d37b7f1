#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "worker/data/generated/tasks.h"

namespace weft::worker {
namespace {

class Copying : public GeneratedTask {
 public:
  Copying(int64_t sequence, const CopyingOptions& options)
      : options_(options),
        shape_{.sequence = sequence,
               .vocabulary = options.symbols + 1,
               .classes = options.symbols + 1,
               .real_targets = (sequence - 1) / 2 + (options.predict_separator ? 1 : 0)} {}

  [[nodiscard]] const SampleShape& shape() const override { return shape_; }

  void Generate(SampleDraws& draws, const SampleBuffers& into) const override {
    const auto half = static_cast<size_t>((shape_.sequence + 1) / 2);  // tokens of `0 w`
    into.tokens[0] = 0;
    for (size_t i = 1; i < half; ++i) {
      into.tokens[i] = static_cast<int32_t>(1 + draws.Below(options_.symbols));
    }
    const auto first = into.tokens.begin();
    std::copy(first, first + static_cast<ptrdiff_t>(half) - 1,
              first + static_cast<ptrdiff_t>(half));
    // Position i predicts token i + 1 of the text; the last one is that of the first half.
    std::fill(into.targets.begin(), into.targets.end(), -1);
    for (size_t i = half; i + 1 < into.tokens.size(); ++i) into.targets[i] = into.tokens[i + 1];
    into.targets.back() = into.tokens[half - 1];
    if (options_.predict_separator) into.targets[half - 1] = 0;
  }

  [[nodiscard]] std::string Describe() const override {
    return absl::StrCat("copying of ", options_.symbols, " symbols",
                        options_.predict_separator ? " with the separator" : "");
  }

 private:
  CopyingOptions options_;
  SampleShape shape_;
};

}  // namespace

GeneratedTaskOr NewCopyingTask(int64_t sequence, const CopyingOptions& options) {
  if (sequence < 3 || sequence % 2 == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the sequence of copying is ", sequence,
                     "; it must be odd and at least 3, because `0 w 0 w` has one token more"));
  }
  WEFT_RETURN_IF_ERROR(CheckSymbols(options.symbols));
  return std::make_unique<Copying>(sequence, options);
}

}  // namespace weft::worker
