#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/sha256.h"
#include "worker/data/basic_sample_source.h"
#include "worker/data/content_hash.h"
#include "worker/data/generated/listops.h"
#include "worker/data/padded_row.h"
#include "worker/data/readers/line_file.h"
#include "worker/data/readers/readers.h"

namespace weft::worker {
namespace {

constexpr absl::string_view kHeader = "Source\tTarget";

// Expression and label of a line; an empty expression if it is not of that form.
std::pair<absl::string_view, char> SplitLine(absl::string_view line) {
  const size_t tab = line.find('\t');
  if (tab == absl::string_view::npos || tab + 2 != line.size()) return {"", ' '};
  return {line.substr(0, tab), line.back()};
}

// A file of which every line can be read.
absl::StatusOr<LineFile> OpenPart(const std::string& folder, absl::string_view name,
                                  int64_t max_tokens) {
  WEFT_ASSIGN_OR_RETURN(LineFile file, LineFile::Open(JoinPath(folder, name)));
  if (file.Line(0) != kHeader) return file.Error(0, "expected the header 'Source<TAB>Target'");
  if (file.lines() == 1) return file.Error(0, "nothing follows the header");
  for (int64_t line = 1; line < file.lines(); ++line) {
    const auto [expression, label] = SplitLine(file.Line(line));
    if (expression.empty() || !absl::ascii_isdigit(static_cast<unsigned char>(label))) {
      return file.Error(line, "expected an expression, a tab and a digit");
    }
    const absl::Status tokens = ListOpsFromText(expression, max_tokens).status();
    if (!tokens.ok()) return file.Error(line, tokens.message());
  }
  return file;
}

class ListOpsReader : public BasicSampleSource {
 public:
  ListOpsReader(SampleSourceFacts facts, LineFile train, LineFile held_out, int64_t max_tokens)
      : BasicSampleSource(std::move(facts)),
        train_(std::move(train)),
        held_out_(std::move(held_out)),
        max_tokens_(max_tokens) {}

  absl::Status Read(Split split, int64_t sample, const SampleBuffers& into) const override {
    CheckRead(split, sample, into);
    const LineFile& file = split == Split::kTrain ? train_ : held_out_;
    const auto [expression, label] = SplitLine(file.Line(sample + 1));
    const absl::StatusOr<std::vector<int32_t>> tokens = ListOpsFromText(expression, max_tokens_);
    if (!tokens.ok()) {  // it was good when the file was opened
      return absl::DataLossError(file.Error(sample + 1, tokens.status().message()).message());
    }
    WritePaddedRow(*tokens, into.tokens, into.valid);
    into.targets[0] = label - '0';
    return absl::OkStatus();
  }

 private:
  LineFile train_, held_out_;
  int64_t max_tokens_;
};

}  // namespace

SampleSourceOr OpenListOpsFiles(const ListOpsFiles& files, int64_t sequence, HeldOut held_out) {
  WEFT_RETURN_IF_ERROR(CheckMaxTokens(files.max_tokens, sequence));
  WEFT_ASSIGN_OR_RETURN(LineFile train,
                        OpenPart(files.folder, "basic_train.tsv", files.max_tokens));
  WEFT_ASSIGN_OR_RETURN(
      LineFile other,
      OpenPart(files.folder, held_out == HeldOut::kTest ? "basic_test.tsv" : "basic_val.tsv",
               files.max_tokens));
  Sha256 hash;
  hash.Update("listops");
  HashContents(train.bytes(), hash);
  HashContents(other.bytes(), hash);
  hash.UpdateInteger(static_cast<uint64_t>(sequence));
  hash.UpdateInteger(static_cast<uint64_t>(files.max_tokens));
  SampleSourceFacts facts = {.shape = {.sequence = sequence,
                                       .vocabulary = kListOpsVocabulary,
                                       .target_kind = TargetKind::kSample,
                                       .classes = kListOpsClasses,
                                       .padded = true},
                             .train_samples = train.lines() - 1,
                             .validation_samples = other.lines() - 1,
                             .fingerprint = hash.Finish(),
                             .description = absl::StrCat("ListOps from ", files.folder)};
  return std::make_unique<ListOpsReader>(std::move(facts), std::move(train), std::move(other),
                                         files.max_tokens);
}

}  // namespace weft::worker
