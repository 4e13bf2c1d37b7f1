// The exchange of ranks on GPUs: NCCL where this build has it, else staged through the host.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device/device.h"
#include "worker/comm/exchange.h"

namespace weft::worker {

// `host`: an exchange of the same ranks over the hosts' memory. `ordinal`: the GPU of `device`, as
// this process numbers them.
absl::StatusOr<std::unique_ptr<Exchange>> NewGpuExchange(std::unique_ptr<Exchange> host,
                                                         kernels::Device& device, int ordinal);

}  // namespace weft::worker
