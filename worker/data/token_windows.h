// A token stream cut into samples for a language model. Sample i of a split is a window of
// sequence + 1 tokens: the first `sequence` are the input, the last `sequence` the targets. Windows
// of a split lie side by side and share one token with their neighbour, so every token is a target
// once. The training split is the front of the stream, the validation split its end; no token is in
// both.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/data/sample_source.h"
#include "worker/data/token_stream.h"

namespace weft::worker {

struct WindowOptions {
  int64_t sequence = 0;  // tokens of input in a sample
  // Share of the stream held out for validation, in [0, 0.5]; 0: no validation split. A share
  // greater than 0 gives at least one sample.
  double validation_fraction = 0.0;
};

// kInvalidArgument when an option is out of range, or the data is too short for one sample in each
// split: the message says what the data is and how many tokens are needed.
absl::StatusOr<std::unique_ptr<SampleSource>> NewTokenWindows(std::unique_ptr<TokenStream> stream,
                                                              const WindowOptions& options);

}  // namespace weft::worker
