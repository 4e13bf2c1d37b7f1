// The ListOps data set of the Long Range Arena as files, made here.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "common/file/file_system.h"

namespace weft::worker {

struct WriteListOpsOptions {
  std::string folder;  // made if it is not there
  uint64_t seed = 0;
  int64_t train = 96'000;  // the benchmark's sizes
  int64_t validation = 2'000;
  int64_t test = 2'000;
};

// Writes basic_train.tsv, basic_val.tsv and basic_test.tsv: the generated samples of the three sets
// in their order. No expression comes twice. Keeps all lines in memory, some 6.6 KB each; a file
// appears when it is whole.
absl::Status WriteListOps(const WriteListOpsOptions& options, FileSystem& files);

}  // namespace weft::worker
