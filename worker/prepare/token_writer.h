// Token files in the format of llm.c (see token_stream.h), as many as are needed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/file/file_system.h"

namespace weft::worker {

struct TokenWriterOptions {
  std::string prefix;                  // files are <prefix>_000000.bin and so on
  int32_t vocabulary = 0;              // up to 65,536: two bytes a token, otherwise four
  int64_t shard_tokens = 100'000'000;  // of a file; 1 to 2^31 - 1. They are kept in memory.
};

class TokenWriter {
 public:
  TokenWriter(FileSystem& files, TokenWriterOptions options);

  // Each token is in [0, vocabulary). A file appears, whole, when it is full.
  absl::Status Append(absl::Span<const int32_t> tokens);
  // Writes the last file. Call once.
  absl::Status Finish();

  [[nodiscard]] int64_t tokens() const { return tokens_; }
  [[nodiscard]] const std::vector<std::string>& paths() const { return paths_; }

 private:
  absl::Status WriteShard();

  FileSystem& files_;
  const TokenWriterOptions options_;
  std::string shard_;  // its tokens as bytes
  int64_t shard_count_ = 0;
  int64_t tokens_ = 0;
  std::vector<std::string> paths_;
};

}  // namespace weft::worker
