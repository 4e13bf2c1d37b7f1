// Texts to token files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/file/file_system.h"
#include "worker/prepare/documents.h"
#include "worker/prepare/tokenizer.h"

namespace weft::worker {

struct TokenizeOptions {
  std::vector<std::string> paths;  // of texts
  DocumentOptions documents;
  std::string prefix;  // of the token files
  int64_t shard_tokens = 100'000'000;
  bool mark_ends = true;  // the tokenizer's end token after each text, if it has one
  int threads = 1;        // the files do not depend on it
};

struct TokenizeResult {
  int64_t documents = 0;
  int64_t bytes = 0;  // of text
  int64_t tokens = 0;
  std::vector<std::string> paths;  // of the token files
};

// kAlreadyExists, naming the file, when there are token files of the prefix.
absl::StatusOr<TokenizeResult> Tokenize(const Tokenizer& tokenizer, const TokenizeOptions& options,
                                        FileSystem& files);

}  // namespace weft::worker
