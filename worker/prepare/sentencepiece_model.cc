// No header of Abseil may be included here: see sentencepiece_model.h.
#include "worker/prepare/sentencepiece_model.h"

#include <sentencepiece_processor.h>

namespace weft::worker {
namespace {

class LoadedModel : public SentencePieceModel {
 public:
  [[nodiscard]] int32_t vocabulary() const override { return processor.GetPieceSize(); }
  [[nodiscard]] int32_t end_token() const override { return processor.eos_id(); }

  bool Encode(const std::string& text, std::vector<int32_t>& tokens,
              std::string& error) const override {
    std::vector<int> pieces;
    const sentencepiece::util::Status status = processor.Encode(text, &pieces);
    if (!status.ok()) {
      error = status.ToString();
      return false;
    }
    tokens.insert(tokens.end(), pieces.begin(), pieces.end());
    return true;
  }

  sentencepiece::SentencePieceProcessor processor;
};

}  // namespace

std::unique_ptr<SentencePieceModel> SentencePieceModel::Load(const std::string& path,
                                                             std::string& error) {
  auto model = std::make_unique<LoadedModel>();
  const sentencepiece::util::Status status = model->processor.Load(path);
  if (!status.ok()) {
    error = status.ToString();
    return nullptr;
  }
  return model;
}

}  // namespace weft::worker
