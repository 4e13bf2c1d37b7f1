// No header of Abseil may be included here: see worker/prepare/sentencepiece_model.h.
#include "tests/worker/prepare/train_tiny_model.h"

#include <sentencepiece_trainer.h>

#include <fstream>

namespace weft::worker {

std::string TrainTinyModel(const std::string& prefix, const std::vector<std::string>& lines,
                           int vocabulary) {
  std::ofstream text(prefix + ".txt");
  for (const std::string& line : lines) text << line << '\n';
  text.close();
  const std::string arguments = "--input=" + prefix + ".txt --model_prefix=" + prefix +
                                " --vocab_size=" + std::to_string(vocabulary) +
                                " --model_type=bpe --byte_fallback=true"
                                " --normalization_rule_name=identity --add_dummy_prefix=false"
                                " --remove_extra_whitespaces=false --minloglevel=2";
  const auto status = sentencepiece::SentencePieceTrainer::Train(arguments);
  return status.ok() ? prefix + ".model" : "";
}

}  // namespace weft::worker
