#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "worker/data/generated/tasks.h"

namespace weft::worker {
namespace {

class InductionHeads : public GeneratedTask {
 public:
  InductionHeads(int64_t sequence, const InductionHeadsOptions& options)
      : options_(options),
        shape_{.sequence = sequence,
               .vocabulary = options.symbols + 1,
               .classes = options.symbols + 1,
               .real_targets = 1} {}

  [[nodiscard]] const SampleShape& shape() const override { return shape_; }

  void Generate(SampleDraws& draws, const SampleBuffers& into) const override {
    for (int32_t& token : into.tokens) {
      token = static_cast<int32_t>(1 + draws.Below(options_.symbols));
    }
    // The symbol after the first 0 stands before the last position.
    const auto place = static_cast<size_t>(draws.Below(shape_.sequence - 2));
    into.tokens[place] = 0;
    into.tokens.back() = 0;
    std::fill(into.targets.begin(), into.targets.end(), -1);
    into.targets.back() = into.tokens[place + 1];
  }

  [[nodiscard]] std::string Describe() const override {
    return absl::StrCat("induction heads with ", options_.symbols, " symbols");
  }

 private:
  InductionHeadsOptions options_;
  SampleShape shape_;
};

}  // namespace

GeneratedTaskOr NewInductionHeadsTask(int64_t sequence, const InductionHeadsOptions& options) {
  if (sequence < 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("the sequence of induction heads is ", sequence, "; it must be at least 3"));
  }
  WEFT_RETURN_IF_ERROR(CheckSymbols(options.symbols));
  return std::make_unique<InductionHeads>(sequence, options);
}

}  // namespace weft::worker
