#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "worker/data/generated/listops.h"
#include "worker/data/generated/tasks.h"
#include "worker/data/padded_row.h"

namespace weft::worker {
namespace {

class ListOps : public GeneratedTask {
 public:
  ListOps(int64_t sequence, const ListOpsOptions& options)
      : options_(options),
        shape_{.sequence = sequence,
               .vocabulary = kListOpsVocabulary,
               .target_kind = TargetKind::kSample,
               .classes = kListOpsClasses,
               .padded = true} {}

  [[nodiscard]] const SampleShape& shape() const override { return shape_; }

  void Generate(SampleDraws& draws, const SampleBuffers& into) const override {
    const ListOpsTree tree = GenerateListOps(draws);
    const auto used = std::min(tree.tokens.size(), static_cast<size_t>(options_.max_tokens));
    WritePaddedRow(absl::MakeConstSpan(tree.tokens).first(used), into.tokens, into.valid);
    into.targets[0] = tree.value;
  }

  [[nodiscard]] std::string Describe() const override {
    return absl::StrCat("ListOps of at most ", options_.max_tokens, " tokens");
  }

 private:
  ListOpsOptions options_;
  SampleShape shape_;
};

}  // namespace

GeneratedTaskOr NewListOpsTask(int64_t sequence, const ListOpsOptions& options) {
  WEFT_RETURN_IF_ERROR(CheckMaxTokens(options.max_tokens, sequence));
  return std::make_unique<ListOps>(sequence, options);
}

}  // namespace weft::worker
