// `weft-rank sample`: text from a checkpoint on standard output, as it is generated.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "worker/model/sampler.h"

namespace weft::worker {

struct SampleRequest {
  std::string checkpoint;  // its directory: <root>/<job>/<checkpoint>
  std::string prompt;      // bytes
  SamplingOptions options;
  int threads = 1;
};

// Writes the prompt's continuation, byte by byte, to descriptor `output`. kNotFound, kDataLoss for
// the checkpoint; kFailedPrecondition when the model is no language model or its tokens are not
// bytes.
absl::Status SampleToDescriptor(const SampleRequest& request, int output);

}  // namespace weft::worker
