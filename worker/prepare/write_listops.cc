#include "worker/prepare/write_listops.h"

#include <vector>

#include "absl/container/node_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "worker/data/generated/listops.h"

namespace weft::worker {
namespace {

// All of them, whichever part they are in; views of them stay valid.
using Lines = absl::node_hash_set<std::string>;

absl::Status WritePart(FileSystem& files, const std::string& path, uint64_t seed, SampleSet set,
                       int64_t count, Lines& lines) {
  std::vector<absl::string_view> pieces = {"Source\tTarget\r\n"};
  for (int64_t sample = 0; static_cast<int64_t>(pieces.size()) <= count; ++sample) {
    SampleDraws draws(seed, set, sample);
    const ListOpsTree tree = GenerateListOps(draws);
    const auto [line, is_new] =
        lines.insert(absl::StrCat(ListOpsToText(tree.tokens), "\t", tree.value, "\r\n"));
    if (is_new) pieces.push_back(*line);
  }
  return WriteFileDurably(files, path, pieces);
}

}  // namespace

absl::Status WriteListOps(const WriteListOpsOptions& options, FileSystem& files) {
  WEFT_RETURN_IF_ERROR(files.CreateDirectories(options.folder));
  Lines lines;
  WEFT_RETURN_IF_ERROR(WritePart(files, JoinPath(options.folder, "basic_train.tsv"), options.seed,
                                 SampleSet::kTrain, options.train, lines));
  WEFT_RETURN_IF_ERROR(WritePart(files, JoinPath(options.folder, "basic_val.tsv"), options.seed,
                                 SampleSet::kValidation, options.validation, lines));
  return WritePart(files, JoinPath(options.folder, "basic_test.tsv"), options.seed,
                   SampleSet::kTest, options.test, lines);
}

}  // namespace weft::worker
