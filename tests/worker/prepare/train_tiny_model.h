// A SentencePiece model for tests. Like sentencepiece_model.h it uses standard types only.
#pragma once

#include <string>
#include <vector>

namespace weft::worker {

// Trains a model on the lines and writes PREFIX.model; its path, or nothing when that fails. White
// space is kept as it is, so that pieces put together give the text; unknown characters are bytes.
std::string TrainTinyModel(const std::string& prefix, const std::vector<std::string>& lines,
                           int vocabulary);

}  // namespace weft::worker
