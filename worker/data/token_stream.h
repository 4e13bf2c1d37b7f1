// TokenStream: training data as one long row of tokens, whatever it was stored as.
// Threads: const methods may run at the same time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace weft::worker {

class TokenStream {
 public:
  virtual ~TokenStream() = default;

  // Tokens in the stream.
  [[nodiscard]] virtual int64_t size() const = 0;
  // Every token is in [0, vocabulary()).
  [[nodiscard]] virtual int32_t vocabulary() const = 0;
  // Tokens [first, first + into.size()), which must lie inside the stream. kDataLoss, naming the
  // file and the position, when a stored token is outside the vocabulary.
  virtual absl::Status Read(int64_t first, absl::Span<int32_t> into) const = 0;
  // Equal for equal data, wherever it is kept and whatever its files are called; changes when the
  // data changes. Files up to 16 MiB count wholly, of larger ones the size and blocks spread
  // evenly.
  [[nodiscard]] virtual const std::string& fingerprint() const = 0;
  // For messages: "text of 12 files under /data/books (1048576 tokens)".
  [[nodiscard]] virtual std::string Describe() const = 0;
};

// Bytes as tokens, vocabulary 256: any file will do, UTF-8 or not. A folder stands for the regular
// files under it, at any depth, in order of their paths relative to it; names that begin with a dot
// are left out, as are empty files; a file that the folder holds twice (by a link) counts once.
// Links to folders are not followed. Between two files stands one byte 0, which does not occur in
// text. Errors name the path: kNotFound, kPermissionDenied; kInvalidArgument for no path at all, a
// named file that is empty, a folder without a file that has bytes, a device or socket.
absl::StatusOr<std::unique_ptr<TokenStream>> OpenByteText(const std::vector<std::string>& paths);

// Token files in the .bin format of llm.c, joined in the order given (no separator: such files mark
// the ends of documents themselves). A file is a header of 256 little-endian int32 (magic, version,
// number of tokens, zeros) and the tokens: uint16 for magic 20240520 version 1, uint32 for magic
// 20240801 version 7. The files are mapped, not read.
// Errors name the path: kNotFound, kPermissionDenied; kInvalidArgument for a wrong header or
// length, or a token outside the vocabulary. Tokens are all checked here when there are up to 2^26
// of them; beyond that they are checked as they are read.
absl::StatusOr<std::unique_ptr<TokenStream>> OpenTokenFiles(const std::vector<std::string>& paths,
                                                            int32_t vocabulary);

}  // namespace weft::worker
