// A SentencePiece model (Kudo and Richardson 2018) behind standard types only: SentencePiece's
// header has an absl::string_view of its own, and its library brings along a Protocol Buffers that
// must not meet ours in one program. Whoever includes this links neither weft_proto nor gRPC.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace weft::worker {

// Threads: const methods may run at the same time.
class SentencePieceModel {
 public:
  // Null when the file is no model; `error` says why.
  static std::unique_ptr<SentencePieceModel> Load(const std::string& path, std::string& error);
  virtual ~SentencePieceModel() = default;

  [[nodiscard]] virtual int32_t vocabulary() const = 0;
  // The token that ends a text; -1 if the model has none.
  [[nodiscard]] virtual int32_t end_token() const = 0;
  // Appends the tokens of `text`. False, with the reason, when it cannot be encoded.
  virtual bool Encode(const std::string& text, std::vector<int32_t>& tokens,
                      std::string& error) const = 0;
};

}  // namespace weft::worker
