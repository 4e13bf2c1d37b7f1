#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "worker/data/generated/tasks.h"

namespace weft::worker {
namespace {

class SelectiveCopying : public GeneratedTask {
 public:
  SelectiveCopying(int64_t sequence, const SelectiveCopyingOptions& options)
      : options_(options),
        shape_{.sequence = sequence,
               .vocabulary = options.symbols + 2,
               .classes = options.symbols + 2,
               .real_targets = options.data_tokens} {}

  [[nodiscard]] const SampleShape& shape() const override { return shape_; }

  void Generate(SampleDraws& draws, const SampleBuffers& into) const override {
    const auto context = static_cast<int32_t>(shape_.sequence - options_.data_tokens);
    std::vector<int32_t> places = draws.Distinct(0, context, options_.data_tokens);
    std::sort(places.begin(), places.end());
    std::fill(into.tokens.begin(), into.tokens.end(), 0);
    std::fill(into.targets.begin(), into.targets.end(), -1);
    auto marker = static_cast<size_t>(context);
    for (const int32_t place : places) {
      const auto symbol = static_cast<int32_t>(1 + draws.Below(options_.symbols));
      into.tokens[static_cast<size_t>(place)] = symbol;
      into.tokens[marker] = options_.symbols + 1;
      into.targets[marker] = symbol;
      ++marker;
    }
  }

  [[nodiscard]] std::string Describe() const override {
    return absl::StrCat("selective copying of ", options_.data_tokens, " of ", options_.symbols,
                        " symbols");
  }

 private:
  SelectiveCopyingOptions options_;
  SampleShape shape_;
};

}  // namespace

GeneratedTaskOr NewSelectiveCopyingTask(int64_t sequence, const SelectiveCopyingOptions& options) {
  WEFT_RETURN_IF_ERROR(CheckSymbols(options.symbols));
  if (options.data_tokens < 1 || options.data_tokens > sequence / 2) {
    return absl::InvalidArgumentError(absl::StrCat("data_tokens is ", options.data_tokens,
                                                   "; it must be 1 to ", sequence / 2,
                                                   ", half of the sequence (", sequence, ")"));
  }
  return std::make_unique<SelectiveCopying>(sequence, options);
}

}  // namespace weft::worker
