// SampleSource: a token stream cut into samples. Sample i of a split is a window of sequence + 1
// tokens: the first `sequence` are the input, the last `sequence` the targets. Windows of a split
// lie side by side and share one token with their neighbour, so every token is a target once.
// The training split is the front of the stream, the validation split its end; no token is in both.
// Threads: const methods may run at the same time. Everything here is a pure function of the data.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/data/token_stream.h"

namespace weft::worker {

enum class Split : uint8_t { kTrain, kValidation };

struct SampleOptions {
  int64_t sequence = 0;  // tokens of input in a sample
  // Share of the stream held out for validation, in [0, 0.5]; 0: no validation split. A share
  // greater than 0 gives at least one sample.
  double validation_fraction = 0.0;
};

class SampleSource {
 public:
  // kInvalidArgument when an option is out of range, or the data is too short for one sample in
  // each split: the message says what the data is and how many tokens are needed.
  static absl::StatusOr<std::unique_ptr<SampleSource>> Create(std::unique_ptr<TokenStream> stream,
                                                              const SampleOptions& options);

  [[nodiscard]] int64_t sequence() const { return sequence_; }
  [[nodiscard]] int32_t vocabulary() const { return stream_->vocabulary(); }
  [[nodiscard]] int64_t sample_count(Split split) const {
    return split == Split::kTrain ? train_samples_ : validation_samples_;
  }
  // Of the data and of how it is cut: a resumed run must find the same one.
  [[nodiscard]] const std::string& fingerprint() const { return fingerprint_; }
  [[nodiscard]] std::string Describe() const;

  // The tokens of one sample; `into` has sequence + 1 elements.
  absl::Status Read(Split split, int64_t sample, absl::Span<int32_t> into) const;
  // The same, as a row of inputs[sequence] and a row of targets[sequence].
  absl::Status Read(Split split, int64_t sample, absl::Span<int32_t> inputs,
                    absl::Span<int32_t> targets) const;

 private:
  SampleSource(std::unique_ptr<TokenStream> stream, int64_t sequence, int64_t train_tokens,
               int64_t validation_tokens);

  std::unique_ptr<TokenStream> stream_;
  int64_t sequence_;
  int64_t validation_first_;  // first token of the validation split
  int64_t train_samples_;
  int64_t validation_samples_;
  std::string fingerprint_;
};

}  // namespace weft::worker
