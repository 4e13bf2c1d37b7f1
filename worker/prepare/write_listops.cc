#include "worker/prepare/write_listops.h"

#include <fstream>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/file_system.h"
#include "worker/data/generated/listops.h"

namespace weft::worker {
namespace {

using Seen = absl::flat_hash_set<std::vector<int32_t>>;

absl::Status WritePart(const std::string& path, uint64_t seed, SampleSet set, int64_t count,
                       Seen& seen) {
  const std::string unfinished = absl::StrCat(path, ".unfinished");
  std::ofstream file(unfinished, std::ios::binary | std::ios::trunc);
  file << "Source\tTarget\r\n";
  int64_t sample = 0;
  for (int64_t written = 0; written < count && file.good(); ++sample) {
    SampleDraws draws(seed, set, sample);
    ListOpsTree tree = GenerateListOps(draws);
    const std::string line = absl::StrCat(ListOpsToText(tree.tokens), "\t", tree.value, "\r\n");
    if (!seen.insert(std::move(tree.tokens)).second) continue;
    file << line;
    ++written;
  }
  file.close();
  if (!file.good()) return absl::UnavailableError(absl::StrCat("cannot write ", unfinished));
  return RealFileSystem().Rename(unfinished, path);
}

}  // namespace

absl::Status WriteListOps(const WriteListOpsOptions& options) {
  WEFT_RETURN_IF_ERROR(RealFileSystem().CreateDirectories(options.folder));
  Seen seen;
  WEFT_RETURN_IF_ERROR(WritePart(JoinPath(options.folder, "basic_train.tsv"), options.seed,
                                 SampleSet::kTrain, options.train, seen));
  WEFT_RETURN_IF_ERROR(WritePart(JoinPath(options.folder, "basic_val.tsv"), options.seed,
                                 SampleSet::kValidation, options.validation, seen));
  return WritePart(JoinPath(options.folder, "basic_test.tsv"), options.seed, SampleSet::kTest,
                   options.test, seen);
}

}  // namespace weft::worker
