#include "worker/prepare/tokenizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/file/mapped_file.h"
#include "worker/prepare/sentencepiece_model.h"

namespace weft::worker {
namespace {

class Bytes : public Tokenizer {
 public:
  [[nodiscard]] int32_t vocabulary() const override { return 256; }
  [[nodiscard]] int32_t end_token() const override { return 0; }
  absl::Status Encode(absl::string_view text, std::vector<int32_t>& tokens) const override {
    for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
    return absl::OkStatus();
  }
};

class SentencePiece : public Tokenizer {
 public:
  explicit SentencePiece(std::unique_ptr<const SentencePieceModel> model)
      : model_(std::move(model)) {}

  [[nodiscard]] int32_t vocabulary() const override { return model_->vocabulary(); }
  [[nodiscard]] int32_t end_token() const override { return model_->end_token(); }
  absl::Status Encode(absl::string_view text, std::vector<int32_t>& tokens) const override {
    std::string error;
    if (model_->Encode(std::string(text), tokens, error)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("cannot be tokenised: ", error));
  }

 private:
  std::unique_ptr<const SentencePieceModel> model_;
};

}  // namespace

std::unique_ptr<Tokenizer> NewByteTokenizer() { return std::make_unique<Bytes>(); }

absl::StatusOr<std::unique_ptr<Tokenizer>> OpenSentencePiece(const std::string& path) {
  WEFT_RETURN_IF_ERROR(MappedFile::Open(path).status());  // says why a file cannot be read
  std::string error;
  std::unique_ptr<const SentencePieceModel> model = SentencePieceModel::Load(path, error);
  if (model == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is no SentencePiece model: ", error));
  }
  return std::make_unique<SentencePiece>(std::move(model));
}

}  // namespace weft::worker
