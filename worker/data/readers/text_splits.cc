// Texts whose splits are files, folders or ranges of bytes.
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "worker/data/readers/readers.h"

namespace weft::worker {
namespace {

absl::StatusOr<TokenSplits> OpenTexts(const std::string& train, const std::string& held_out) {
  TokenSplits splits;
  WEFT_ASSIGN_OR_RETURN(splits.train, OpenByteText({train}));
  WEFT_ASSIGN_OR_RETURN(splits.validation, OpenByteText({held_out}));
  return splits;
}

}  // namespace

absl::StatusOr<TokenSplits> OpenPennTreebank(const std::string& folder, HeldOut held_out) {
  return OpenTexts(JoinPath(folder, "ptb.train.txt"),
                   JoinPath(folder, held_out == HeldOut::kTest ? "ptb.test.txt" : "ptb.valid.txt"));
}

absl::StatusOr<TokenSplits> OpenPg19(const std::string& folder, HeldOut held_out) {
  return OpenTexts(JoinPath(folder, "train"),
                   JoinPath(folder, held_out == HeldOut::kTest ? "test" : "validation"));
}

absl::StatusOr<TokenSplits> OpenEnwik8(const Enwik8File& file, HeldOut held_out) {
  if (file.train_bytes < 1 || file.held_out_bytes < 1) {
    return absl::InvalidArgumentError(absl::StrCat("train_bytes is ", file.train_bytes,
                                                   " and held_out_bytes ", file.held_out_bytes,
                                                   "; both must be at least 1"));
  }
  WEFT_ASSIGN_OR_RETURN(std::shared_ptr<const TokenStream> whole, OpenByteText({file.path}));
  const int64_t parts = held_out == HeldOut::kTest ? 2 : 1;
  // The sum of the sizes may overflow; what is left of the file cannot.
  if ((whole->size() - file.train_bytes) / parts < file.held_out_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path, " has ", whole->size(), " bytes; expected ", file.train_bytes,
                     " to train on and ", file.held_out_bytes, " for each of ", parts,
                     parts == 1 ? " other part" : " other parts"));
  }
  const int64_t first = file.train_bytes + (parts - 1) * file.held_out_bytes;
  TokenSplits splits;
  splits.validation = SliceOf(whole, first, file.held_out_bytes);
  splits.train = SliceOf(std::move(whole), 0, file.train_bytes);
  return splits;
}

}  // namespace weft::worker
