// The weights that a job starts from: Normal(0, 0.02) for every matrix, ones for every norm. Drawn
// on the host by counter from the seed, so every rank and every device starts from the same values
// without exchanging them.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/device/device.h"
#include "worker/model/parameter_layout.h"

namespace weft::worker {

// As many as this machine runs at a time.
int AllThreads();

// Element i of parameter number p (in layout order) is draw (i, ordinal p) under `seed`, rounded to
// fp32 on every device: the reference device starts from the same weights as the others.
// Gaps between parameters become zero.
// The number of threads decides how long it takes and nothing else.
absl::Status InitialiseWeights(uint64_t seed, kernels::Stream& stream, ParameterBlock& weights,
                               int threads = AllThreads());

}  // namespace weft::worker
