#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/sha256.h"
#include "worker/data/basic_sample_source.h"
#include "worker/data/content_hash.h"
#include "worker/data/padded_row.h"
#include "worker/data/readers/line_file.h"
#include "worker/data/readers/readers.h"

namespace weft::worker {
namespace {

constexpr int64_t kMaxTextBytes = 10'000;

struct Pair {
  std::array<absl::string_view, 2> texts;
  int32_t label = 0;
};

absl::StatusOr<Pair> ParseLine(const LineFile& file, int64_t line) {
  absl::string_view rest = file.Line(line);
  std::array<absl::string_view, 5> fields;
  for (size_t field = 0; field < 5; ++field) {
    const size_t tab = rest.find('\t');
    if ((tab == absl::string_view::npos) != (field == 4)) {
      return file.Error(line, absl::StrCat("has ", field == 4 ? "more than five" : "only ",
                                           field == 4 ? "" : absl::StrCat(field + 1),
                                           " fields; expected label, id, id, text, text between "
                                           "tabs"));
    }
    fields[field] = rest.substr(0, tab);
    if (field < 4) rest.remove_prefix(tab + 1);
  }
  double label = 0;
  if (!absl::SimpleAtod(fields[0], &label) || (label != 0.0 && label != 1.0)) {
    return file.Error(
        line, absl::StrCat("the label is '", fields[0].substr(0, 40), "'; expected 0 or 1"));
  }
  return Pair{{fields[3], fields[4]}, label == 1.0 ? 1 : 0};
}

absl::StatusOr<LineFile> OpenPart(const std::string& folder, absl::string_view part) {
  WEFT_ASSIGN_OR_RETURN(LineFile file, LineFile::Open(JoinPath(
                                           folder, absl::StrCat("new_aan_pairs.", part, ".tsv"))));
  for (int64_t line = 0; line < file.lines(); ++line) {
    WEFT_RETURN_IF_ERROR(ParseLine(file, line).status());
  }
  return file;
}

class AanReader : public BasicSampleSource {
 public:
  AanReader(SampleSourceFacts facts, LineFile train, LineFile held_out, int64_t max_tokens)
      : BasicSampleSource(std::move(facts)),
        train_(std::move(train)),
        held_out_(std::move(held_out)),
        max_tokens_(std::min(max_tokens, kMaxTextBytes)) {}

  absl::Status Read(Split split, int64_t sample, const SampleBuffers& into) const override {
    CheckRead(split, sample, into);
    WEFT_ASSIGN_OR_RETURN(const Pair pair,
                          ParseLine(split == Split::kTrain ? train_ : held_out_, sample));
    const auto length = static_cast<size_t>(shape().sequence);
    for (size_t row = 0; row < 2; ++row) {
      WritePaddedBytes(pair.texts[row], max_tokens_, into.tokens.subspan(row * length, length),
                       into.valid.subspan(row * length, length));
    }
    into.targets[0] = pair.label;
    return absl::OkStatus();
  }

 private:
  LineFile train_, held_out_;
  int64_t max_tokens_;
};

}  // namespace

SampleSourceOr OpenAan(const AanFiles& files, int64_t sequence, HeldOut held_out) {
  WEFT_RETURN_IF_ERROR(CheckMaxTokens(files.max_tokens, sequence));
  WEFT_ASSIGN_OR_RETURN(LineFile train, OpenPart(files.folder, "train"));
  WEFT_ASSIGN_OR_RETURN(LineFile other,
                        OpenPart(files.folder, held_out == HeldOut::kTest ? "test" : "eval"));
  Sha256 hash;
  hash.Update("aan");
  HashContents(train.bytes(), hash);
  HashContents(other.bytes(), hash);
  hash.UpdateInteger(static_cast<uint64_t>(sequence));
  hash.UpdateInteger(static_cast<uint64_t>(files.max_tokens));
  SampleSourceFacts facts = {.shape = {.sequence = sequence,
                                       .rows = 2,
                                       .vocabulary = kPaddedByteVocabulary,
                                       .target_kind = TargetKind::kSample,
                                       .classes = 2,
                                       .padded = true},
                             .train_samples = train.lines(),
                             .validation_samples = other.lines(),
                             .fingerprint = hash.Finish(),
                             .description = absl::StrCat("pairs of papers from ", files.folder)};
  return std::make_unique<AanReader>(std::move(facts), std::move(train), std::move(other),
                                     files.max_tokens);
}

}  // namespace weft::worker
