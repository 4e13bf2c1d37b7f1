// Token streams cut into samples for a language model. Sample i of a split is a window of sequence
// + 1 tokens: the first `sequence` are the input, the last `sequence` the targets.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/data/sample_source.h"
#include "worker/data/token_stream.h"

namespace weft::worker {

struct WindowOptions {
  int64_t sequence = 0;  // tokens of input in a sample
  // Tokens from the start of a window to the start of the next; 0: `sequence`, so that windows
  // share one token with their neighbour and every token is a target once. sequence + 1 gives
  // windows that share nothing.
  int64_t stride = 0;
  // Share of the training stream held out for validation when there is no stream for it, in [0,
  // 0.5]; 0: no validation split. A share greater than 0 gives at least one sample. The training
  // split is then the front of the stream, the validation split its end; no token is in both.
  double validation_fraction = 0.0;
};

// Training data, and what is held out from it; null if nothing is.
struct TokenSplits {
  std::shared_ptr<const TokenStream> train;
  std::shared_ptr<const TokenStream> validation;
};

// kInvalidArgument when an option is out of range, or the data is too short for one sample in each
// split: the message says what the data is and how many tokens are needed.
absl::StatusOr<std::unique_ptr<SampleSource>> NewTokenWindows(TokenSplits splits,
                                                              const WindowOptions& options);
absl::StatusOr<std::unique_ptr<SampleSource>> NewTokenWindows(std::unique_ptr<TokenStream> stream,
                                                              const WindowOptions& options);

// Tokens [first, first + count) of a stream, which must lie inside it, as a stream.
std::shared_ptr<const TokenStream> SliceOf(std::shared_ptr<const TokenStream> stream, int64_t first,
                                           int64_t count);

}  // namespace weft::worker
