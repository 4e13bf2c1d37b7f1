// From text to tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weft::worker {

// Threads: const methods may run at the same time.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  [[nodiscard]] virtual int32_t vocabulary() const = 0;
  // The token that stands after each text; -1 for none.
  [[nodiscard]] virtual int32_t end_token() const = 0;
  // Appends the tokens of `text`.
  virtual absl::Status Encode(absl::string_view text, std::vector<int32_t>& tokens) const = 0;
};

// Bytes; 0, which does not occur in text, ends a text.
std::unique_ptr<Tokenizer> NewByteTokenizer();

// kNotFound, kInvalidArgument with the path.
absl::StatusOr<std::unique_ptr<Tokenizer>> OpenSentencePiece(const std::string& path);

}  // namespace weft::worker
