// The device that a rank computes on, and the exchange that goes with it.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device/device.h"
#include "weft/v1/rank_link.pb.h"
#include "worker/comm/exchange.h"

namespace weft::worker {

// Cores, or the one GPU that this process sees, in the precision of the spec. kUnavailable without
// a GPU or in a build without CUDA.
absl::StatusOr<std::unique_ptr<kernels::Device>> NewRankDevice(
    const v1::RankAssignment& assignment);

// For tensors on `device`, which outlives it: nothing to exchange for a single rank, else over the
// host's relay; between GPUs NCCL carries the bytes, in a build that has it.
absl::StatusOr<std::unique_ptr<Exchange>> NewRankExchange(const v1::RankAssignment& assignment,
                                                          kernels::Device& device);

}  // namespace weft::worker
